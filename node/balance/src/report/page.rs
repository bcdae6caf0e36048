//! The report as a page: one file that loads nothing and runs nothing.

use std::fmt::Write as _;

use talkoot_dataset::inspect::escaped;

use super::{BalanceReport, chart};
use crate::run::BalanceError;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>What balancing did</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884 }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.pair { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); gap: 1.5rem; margin-top: 1rem }
figure { margin: 0 } svg { width: 100%; height: auto }
i { display: inline-block; width: .9em; height: .9em; border-radius: 2px; vertical-align: -1px }
</style></head><body>
<h1>What balancing did</h1>
"#;

pub(super) fn page(report: &BalanceReport) -> Result<String, BalanceError> {
    let mut out = String::from(HEAD);
    let _ = writeln!(
        out,
        "<p>{} samples = {} drawn + {} left out. With repetitions the list has {}. {} are like no concept; {} of these \
         are left out.</p>",
        report.samples,
        report.distinct,
        report.left_out,
        report.drawn,
        report.without_concept,
        report.without_concept_left_out
    );
    coverage(&mut out, report);
    let _ = writeln!(
        out,
        "<p><i style=\"background:#d58a5b\"></i> all samples <i style=\"background:#3f7fbf\"></i> drawn</p>\n\
         <div class=\"pair\">\n<figure role=\"img\" aria-label=\"Samples of a concept by its rank\">{}</figure>\n\
         <figure role=\"img\" aria-label=\"Concepts by how many samples have them\">{}</figure>\n</div>",
        chart::ranks(&report.ranks)?,
        chart::frequencies(&report.frequencies)?
    );
    let frequent = report.most_frequent.iter().map(|count| (&count.concept, count.before, count.after));
    table(&mut out, "The most frequent concepts", "concept", frequent);
    let sources = report.sources.iter().map(|count| (&count.source, count.samples, count.drawn));
    table(&mut out, "Sources", "source", sources);
    out.push_str("</body></html>\n");
    Ok(out)
}

fn coverage(out: &mut String, report: &BalanceReport) {
    let (before, after) = (&report.before, &report.after);
    out.push_str(
        "<h2>Coverage</h2>\n<table><thead><tr><th scope=\"col\"></th><th scope=\"col\" class=\"number\">all samples</th>\
         <th scope=\"col\" class=\"number\">as many by chance</th><th scope=\"col\" class=\"number\">drawn</th></tr>\
         </thead><tbody>\n",
    );
    let mut row = |name: &str, before: String, chance: String, after: String| {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td class=\"number\">{before}</td><td class=\"number\">{chance}</td>\
             <td class=\"number\">{after}</td></tr>"
        );
    };
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let none = String::new;
    row(
        &format!("covered of {} concepts", report.concepts),
        before.covered.to_string(),
        format!("{:.1}", report.covered_by_chance),
        after.covered.to_string(),
    );
    row(
        "effective number of concepts",
        format!("{:.1}", before.effective),
        none(),
        format!("{:.1}", after.effective),
    );
    row(
        "Gini coefficient of their frequencies",
        format!("{:.4}", before.gini),
        none(),
        format!("{:.4}", after.gini),
    );
    row("share of the most frequent hundredth", percent(before.head), none(), percent(after.head));
    out.push_str("</tbody></table>\n");
}

fn table<'a>(out: &mut String, title: &str, what: &str, rows: impl Iterator<Item = (&'a String, u64, u64)>) {
    let _ = writeln!(
        out,
        "<h2>{title}</h2>\n<table><thead><tr><th scope=\"col\">{what}</th><th scope=\"col\" class=\"number\">all samples\
         </th><th scope=\"col\" class=\"number\">drawn</th></tr></thead><tbody>"
    );
    for (name, before, after) in rows.take(1_000) {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{before}</td><td class=\"number\">{after}</td></tr>",
            escaped(name)
        );
    }
    out.push_str("</tbody></table>\n");
}
