//! What is measured without a guest: the scrape, and sizes.

use super::section::{Section, number, table};
use anyhow::{Context, Result};
use serde_json::Value;

/// Milliseconds.
const SCRAPE: f64 = 10.0;

/// MiB.
const IMAGE: f64 = 8.0;

pub fn scrape(figures: &[Value]) -> Result<Section> {
    let figure = figures.first().context("nothing was measured")?;
    let series = number(figure, "series")?;
    let mut rows = Vec::new();
    for what in ["encode", "GET /metrics", "with gzip", "with TLS", "with TLS and gzip"] {
        // Figures that were kept before it was measured have none.
        if figure[what].is_null() {
            continue;
        }
        let at = |quantile| anyhow::Ok(format!("{:.2}", number(&figure[what], quantile)?));
        rows.push(vec![what.to_owned(), at("median")?, at("p99")?, at("most")?]);
    }
    let encoded = number(figure, "bytes with gzip").map(|bytes| {
        format!(
            " With gzip it is {} KiB. Scrapes are a tenth of a second apart, and each has a connection of its own; with TLS that is a whole handshake \
             (TLS 1.3, ECDSA P-256), and what the client does for it is in the time. What it would do to take gzip apart is not.",
            (bytes / 1024.0).round()
        )
    });
    let (median, p99) =
        (number(&figure["GET /metrics"], "median")?, number(&figure["GET /metrics"], "p99")?);
    Ok(Section {
        title: "Scrape of 10,000 series",
        goal: "≤ 10 ms on a real machine",
        found: format!("median {median:.1} ms, p99 {p99:.1} ms for {series} series"),
        reached: (median <= SCRAPE).into(),
        body: format!(
            "On the machine itself, with the agent's own reporter and server, without eBPF: {} pods with kills of three kinds each, \
             {} KiB of text, fetched over the loopback device.{}\n\n{}",
            figure["pods"],
            (number(figure, "bytes")? / 1024.0).round(),
            encoded.unwrap_or_default(),
            table(&["ms", "median", "p99", "most"], rows)
        ),
    })
}

pub fn sizes(figures: &[Value]) -> Result<Section> {
    let figure = figures.first().context("nothing was measured")?;
    let mebibytes = |name| anyhow::Ok(number(figure, name)? / f64::from(1 << 20));
    let (image, program) = (mebibytes("image")?, mebibytes("program")?);
    Ok(Section {
        title: "Size",
        goal: "image ≤ 8 MiB compressed",
        found: format!("image {image:.1} MiB, program {program:.1} MiB"),
        reached: (image <= IMAGE).into(),
        body: format!(
            "The image is the archive of `cargo xtask image`, whose layers are compressed. It holds the program ({} bytes, static) and \
             nothing else. `gzip -9` compresses the program alone to {:.1} MiB.\n",
            number(figure, "program")?,
            mebibytes("program compressed")?
        ),
    })
}
