//! Texts in pages.

/// A text that means itself in HTML, also within an attribute's quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No page may hold it.
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}
