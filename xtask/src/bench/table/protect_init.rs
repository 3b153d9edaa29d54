//! What `protectInit` costs those who fork, and how long children are exempt.

use super::{
    compared::{compared, more},
    section::{Reached, Section, milliseconds, number, table},
};
use anyhow::{Context, Result};
use serde_json::Value;

/// Per cent.
const GOAL: f64 = 1.0;

/// What the children of the init do, as the guest and as the page names it.
const CHILDREN: [(&str, &str); 4] = [
    ("wait", "one child at a time, which sleeps"),
    ("grow", "one child at a time, which takes memory"),
    ("storm", "eight children at a time, which take memory"),
    ("stay", "all children at once, which sleep"),
];

pub fn section(figures: &[Value]) -> Result<Section> {
    let one = |name: &str, value: &str| {
        let found = figures.iter().find(|figure| figure[name] == value);
        found.with_context(|| format!("{name} {value} was not measured"))
    };
    let with = |name: &str| {
        let found = figures.iter().find(|figure| !figure[name].is_null());
        found.with_context(|| format!("{name} was not measured"))
    };
    let [outside, inside] =
        [&one("place", "outside")?["fork and exit"], &one("place", "inside")?["fork and exit"]];
    let program = &with("instructions of the program")?["instructions of the program"];
    let own = |place: &str, of: &Value| {
        anyhow::Ok((
            number(program, place)?,
            number(program, place)? / number(&of["without"], "median")? * 100.0,
        ))
    };
    let ((each_outside, part_outside), (each_inside, part_inside)) =
        (own("outside", outside)?, own("inside", inside)?);
    let agent = number(with("agent")?, "agent")?;
    let children = CHILDREN.map(|(name, what)| anyhow::Ok((what, one("children", name)?)));
    let children = children.into_iter().collect::<Result<Vec<_>>>()?;
    let rows = children.iter().map(|(what, figure)| row(what, figure));
    let sum =
        |name: &str| children.iter().map(|(_, figure)| number(figure, name)).sum::<Result<f64>>();
    let (forks, exempt) = (sum("forks")?, sum("ended exempt")? + sum("exempt after a second")?);
    let lives = number(&one("children", "grow")?["ms of the init"], "median")?;
    let (more_outside, more_inside) = (more(outside)?, more(inside)?);
    let is_cheap = more_outside < GOAL && part_outside < GOAL;
    let is_cheap_inside = part_inside < GOAL;
    let columns = [
        "ms from the fork",
        "forks",
        "median",
        "p99",
        "most",
        "ended exempt",
        "exempt 1 s later",
        "forks lost",
    ];
    Ok(Section {
        title: "Cost of `protectInit`",
        goal: "fork and exit < 1 %",
        found: format!(
            "outside of protected containers {more_outside:+.2} %; there the program takes {each_outside:.0} instructions a fork \
             ({part_outside:.2} %). Inside the program takes {each_inside:.0} ({part_inside:.2} %), and with the agent's work on the same \
             processor it is {more_inside:+.0} %. {exempt:.0} of {forks:.0} children stayed exempt"
        ),
        reached: match (is_cheap, is_cheap_inside) {
            (true, true) => Reached::If(
                "outside of protected containers, and inside by what runs in the fork itself; **not** with the agent's work on the same processor",
            ),
            (true, false) => Reached::If("outside of protected containers, **not inside**"),
            (false, _) => Reached::No,
        },
        body: format!(
            "Instructions, as above, with one protected container. *Outside* is a process in no protected container: every process of the node \
             pays that. *Inside* is the protected init, which waits for each child. That count has all that the agent does for a child, because \
             the guest has one processor: {agent:.0} instructions of the agent's threads for a fork, and the switches to them and back. With more \
             processors the agent usually runs on another one.\n\n\
             {}\n\
             By the kernel's count of its programs' time (`kernel.bpf_stats_enabled`) the program takes {each_outside:.0} instructions for a fork \
             outside, {part_outside:.2} % of a fork with its exit, and {each_inside:.0} for one inside, {part_inside:.2} %, where it reports the \
             child and wakes the agent. A few of them read the kernel's clock.\n\n\
             The second table has the time from the fork until the child has the init's own `oom_score_adj`, by the kernel's trace buffer. Until \
             then the child is exempt from OOM kills. A child that takes memory takes 2 MiB as fast as it can, and ends; alone it lives for {} ms. \
             *Forks lost* is `herder_init_forks_lost_total`.\n\n\
             {}",
            compared([
                ("fork and exit, outside".to_owned(), outside),
                ("fork and exit, inside".to_owned(), inside),
            ])?,
            milliseconds(lives),
            table(&columns, rows.collect::<Result<Vec<_>>>()?)
        ),
    })
}

fn row(what: &str, figure: &Value) -> Result<Vec<String>> {
    let back = |quantile| number(&figure["ms"], quantile).map(milliseconds);
    let count = |name| anyhow::Ok(format!("{:.0}", number(figure, name)?));
    Ok(vec![
        what.to_owned(),
        count("forks")?,
        back("median")?,
        back("p99")?,
        back("most")?,
        count("ended exempt")?,
        count("exempt after a second")?,
        count("lost")?,
    ])
}
