//! What `victimArguments` costs those who signal processes, and start and end them.

use super::{
    compared::{compared, more},
    section::{Reached, Section, number, table},
};
use anyhow::{Context, Result};
use serde_json::Value;

/// Per cent.
const GOAL: f64 = 1.0;

/// What is done, as the guest and as the page names it.
const DEEDS: [(&str, &str); 3] = [
    ("signal", "signal to oneself"),
    ("fork and exit", "fork and exit"),
    ("SIGKILL", "SIGKILL of a child, and its exit"),
];

const TRACEPOINTS: [&str; 2] = ["signal_generate", "signal_deliver"];

pub fn section(figures: &[Value]) -> Result<Section> {
    let one = |name: &str, value: &str| {
        let found = figures.iter().find(|figure| figure[name] == value);
        found.with_context(|| format!("{name} {value} was not measured"))
    };
    let (mut rows, mut own, mut all) = (vec![], vec![], vec![]);
    for (name, what) in DEEDS {
        let counted = &one("what", name)?["counted"];
        all.push(more(counted)?);
        rows.push((what.to_owned(), counted));
        let by_kernel = one("counted by the kernel", name)?;
        let times = number(by_kernel, "times")?;
        let (mut cells, mut sum) = (vec![what.to_owned()], 0.0);
        for tracepoint in TRACEPOINTS {
            let program = &by_kernel["programs"][tracepoint];
            let runs = number(program, "runs")? / times;
            // What did not run has none.
            let each = program["each"].as_f64().unwrap_or(0.0);
            sum += runs * each;
            cells.push(if runs == 0.0 {
                "–".to_owned()
            } else {
                format!("{runs:.1} × {each:.0}")
            });
        }
        let part = sum / number(&counted["without"], "median")? * 100.0;
        cells.push(format!("{sum:.0} ({part:.2} %)"));
        own.push(cells);
    }
    let [signal, fork, kill] = all[..] else { unreachable!("as many as deeds") };
    Ok(Section {
        title: "Cost of `victimArguments`",
        goal: "< 1 %",
        found: format!(
            "fork and exit {fork:+.2} %, SIGKILL with exit {kill:+.2} %, signal {signal:+.2} %"
        ),
        reached: match [fork < GOAL && kill < GOAL, signal < GOAL] {
            [true, true] => Reached::Yes,
            [true, false] => Reached::If("for processes that start and end; **not for signals**"),
            [false, _] => Reached::No,
        },
        body: format!(
            "Instructions, as above. The programs look at each signal that is sent, and at each that is delivered, for as long as a rule asks for \
             it. The signal to oneself is handled. The child that is killed sleeps, and its parent waits for its end. A child that ends sends its \
             parent a signal.\n\n\
             {}\n\
             By the kernel's count of its programs' time (`kernel.bpf_stats_enabled`), of which a few instructions read the kernel's clock:\n\n\
             {}",
            compared(rows)?,
            table(
                &[
                    "runs × instructions",
                    "signal_generate",
                    "signal_deliver",
                    "both, of the median without"
                ],
                own
            )
        ),
    })
}
