//! The report as a page: one file that loads nothing and runs nothing.

use std::fmt::Write as _;

use talkoot_dataset::inspect::escaped;

use super::{FilterReport, chart};
use crate::run::FilterError;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>What filtering did</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } td.example { overflow-wrap: anywhere }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); gap: 1.5rem; margin-top: 1rem }
figure { margin: 0 } svg { width: 100%; height: auto }
i { display: inline-block; width: .9em; height: .9em; border-radius: 2px; vertical-align: -1px }
</style></head><body>
<h1>What filtering did</h1>
"#;

pub(super) fn page(report: &FilterReport) -> Result<String, FilterError> {
    let mut out = String::from(HEAD);
    let _ = write!(
        out,
        "<p>{} samples = {} kept + {} dropped. {} clusters of duplicates, the largest of {}.",
        report.samples, report.kept, report.dropped, report.clusters, report.largest_cluster
    );
    if report.skipped_pairs > 0 {
        let _ = write!(out, " {} pairs were not compared: too many were alike.", report.skipped_pairs);
    }
    out.push_str(
        "</p>\n<table><thead><tr><th scope=\"col\">rule</th><th scope=\"col\" class=\"number\">dropped</th>\
         <th scope=\"col\" class=\"number\">share</th><th scope=\"col\" class=\"number\">by this rule only</th>\
         <th scope=\"col\">for example</th></tr></thead><tbody>\n",
    );
    for effect in &report.rules {
        let examples: Vec<String> = effect.examples.iter().map(|example| escaped(example)).collect();
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td class=\"number\">{:.2} %</td>\
             <td class=\"number\">{}</td><td class=\"example\">{}</td></tr>",
            effect.rule.name(),
            effect.dropped,
            100.0 * effect.share,
            effect.only,
            examples.join("<br>")
        );
    }
    out.push_str(
        "</tbody></table>\n<h2>Before and after</h2>\n<p><i style=\"background:#3f7fbf\"></i> kept \
         <i style=\"background:#d58a5b\"></i> dropped. Samples without pictures are left out where pictures are \
         counted.</p>\n<div class=\"charts\">\n",
    );
    for histogram in &report.histograms {
        let (before, after): (u64, u64) = (histogram.before.iter().sum(), histogram.after.iter().sum());
        let _ = writeln!(
            out,
            "<figure role=\"img\" aria-label=\"{}: {after} kept of {before}\">{}</figure>",
            histogram.measure.title(),
            chart::draw(histogram)?
        );
    }
    out.push_str("</div></body></html>\n");
    Ok(out)
}
