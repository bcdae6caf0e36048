//! A report as one page that needs nothing else, for people who would rather not read a terminal.

use std::fmt::Write as _;

use super::{
    Options,
    report::{Report, Verdict, span},
};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;\
background:#fff}code{font-size:.85em;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}td,th{text-align:left;\
vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ccc}td.n{text-align:right;font-variant-numeric:tabular-nums}\
.verdict{padding:.8rem 1rem;border-left:.4rem solid}.sound{border-color:#2f9e62}.lie{border-color:#c0392b}\
.inconclusive{border-color:#c9971c}@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}td,th{border-color:#444}}";

/// The page. Whatever comes from the log is escaped.
pub fn page(report: &Report, options: &Options) -> String {
    let (class, verdict) = match report.verdict() {
        Verdict::Sound => ("sound", "Sound: everything that was checked is as it is claimed.".to_owned()),
        Verdict::Lie => ("lie", format!("{} found.", counted(report.lies.len(), "lie", "lies"))),
        Verdict::Inconclusive => {
            ("inconclusive", "Inconclusive: no lie was found, but not everything could be seen.".to_owned())
        }
    };
    let mut body = String::new();
    let name = if report.name.is_empty() { "a run" } else { &report.name };
    // Writing into a string does not fail.
    let _ = write!(
        body,
        "<h1>Audit of {}</h1><p class=\"verdict {class}\">{}</p>",
        escape(name),
        escape(&verdict)
    );
    let counts = &report.counts;
    let rows = [
        ("Log", format!("{} entries under {} checkpoints", counts.entries, counts.checkpoints)),
        (
            "Newest checkpoint",
            report.head.as_ref().map_or_else(
                || "not reached".to_owned(),
                |head| {
                    let clock = if head.by_witnesses { "witnesses'" } else { "operator's" };
                    format!("{} old by the {clock} clock", span(head.age_s))
                },
            ),
        ),
        ("Rounds", format!("{}, with {} sealed contributions", counts.rounds, counts.contributions)),
        ("Aggregations computed again", counts.aggregations.to_string()),
        (
            "Contributions executed again",
            format!("{} of {}, chosen with seed {}", counts.replayed, counts.contributions, options.seed),
        ),
        ("Verdicts compared with a replay", format!("{} of {}", counts.verdicts_checked, counts.verdicts)),
    ];
    body.push_str("<h2>What was checked</h2><table>");
    for (what, value) in rows {
        let _ = write!(body, "<tr><th>{what}</th><td>{}</td></tr>", escape(&value));
    }
    for (what, value) in
        [("Run", &report.run), ("Root of the log", &report.root), ("Last state", &report.state)]
    {
        let _ = write!(body, "<tr><th>{what}</th><td><code>{}</code></td></tr>", escape(value));
    }
    body.push_str("</table>");
    list(&mut body, "Lies", report.lies.iter().map(ToString::to_string));
    list(&mut body, "What was not checked", report.not_checked.iter().map(ToString::to_string));
    list(&mut body, "Members that were excluded", report.excluded.iter().cloned());
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Audit of {}</title><style>{STYLE}</style><body>{body}</body></html>\n",
        escape(name)
    )
}

fn list(body: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("<li>{}</li>", escape(&item))).collect();
    if !items.is_empty() {
        let _ = write!(body, "<h2>{title}</h2><ul>{}</ul>", items.concat());
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::audit::{Blobs, Lie, LogPlace, Unchecked};

    fn options() -> Options {
        Options {
            ledger: LogPlace::Folder("l".into()),
            blobs: Blobs::in_folder(Path::new("b")),
            log_key: None,
            replay: 0.05,
            seed: 42,
            seen: Vec::new(),
            trail: None,
            now_ms: 0,
        }
    }

    #[test]
    fn the_page_says_what_the_report_says() {
        let mut report = Report::new(false);
        report.name = "demo".to_owned();
        report.counts.entries = 938;
        let sound = page(&report, &options());
        assert!(
            sound.contains("Audit of demo") && sound.contains("938 entries") && sound.contains("seed 42")
        );
        assert!(sound.contains("class=\"verdict sound\""));
        assert!(
            sound.contains(&escape(&Unchecked::KeyFromTheLog.to_string())),
            "what was not checked is there"
        );
        report.lie(Lie::Log { reason: "it forks".to_owned() });
        let lie = page(&report, &options());
        assert!(
            lie.contains("class=\"verdict lie\"") && lie.contains("1 lie found.") && lie.contains("it forks")
        );
    }

    #[test]
    fn what_comes_from_the_log_cannot_become_markup() {
        let mut report = Report::new(true);
        report.name = "<script>alert('x')</script>".to_owned();
        report.lie(Lie::Rule { entry: 1, reason: "\"><img src=x>".to_owned() });
        let page = page(&report, &options());
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }
}
