//! The elements of a JSON array, cut out of the file one by one: an array of any length streams.

use std::io::{self, BufRead};

use super::MAX_LINE_BYTES;

/// A place in an array that is read.
#[derive(Debug)]
pub(super) struct Elements<R> {
    file: R,
    bytes_read: u64,
    begun: bool,
    ended: bool,
    /// Whether the last element was followed by a comma, so that another one must come.
    owed: bool,
}

/// What comes next in an array.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An element; its bytes are where the caller wanted them.
    Element,
    /// An element of more than [`MAX_LINE_BYTES`], which was passed over.
    TooLong,
    /// The array has ended, and the file with it.
    End,
    /// The file is no array, or stops within it.
    Broken(String),
}

/// Where a byte stands in an element.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_text: bool,
    escaped: bool,
}

impl Scan {
    /// Takes a byte; whether it ends the element, which it is then no part of.
    fn ends_at(&mut self, byte: u8) -> bool {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b',' | b']' if self.depth == 0 => return true,
            b'"' => self.in_text = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

impl<R: BufRead> Elements<R> {
    pub(super) const fn new(file: R) -> Self {
        Self { file, bytes_read: 0, begun: false, ended: false, owed: false }
    }

    pub(super) const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Reads the next element into `element`; nothing comes after [`Next::End`] and [`Next::Broken`].
    pub(super) fn next(&mut self, element: &mut Vec<u8>) -> io::Result<Next> {
        element.clear();
        if self.ended {
            return Ok(Next::End);
        }
        if !self.begun {
            if self.past_blanks()? != Some(b'[') {
                return Ok(self.broken("it does not begin with '['"));
            }
            self.begun = true;
        }
        let Some((too_long, last)) = self.cut(element)? else {
            return Ok(self.broken("it stops before the array ends"));
        };
        let blank = !too_long && element.iter().all(u8::is_ascii_whitespace);
        let owed = std::mem::replace(&mut self.owed, !last);
        if last {
            self.ended = true;
            if self.past_blanks()?.is_some() {
                return Ok(self.broken("something stands after its end"));
            }
            if blank && !owed {
                return Ok(Next::End);
            }
        }
        Ok(if too_long { Next::TooLong } else { Next::Element })
    }

    fn broken(&mut self, reason: &str) -> Next {
        self.ended = true;
        Next::Broken(reason.to_owned())
    }

    /// The first byte that is no blank.
    fn past_blanks(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.file.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let found = buffer.iter().position(|byte| !byte.is_ascii_whitespace());
            let byte = found.map(|at| buffer[at]);
            let used = found.map_or(buffer.len(), |at| at + 1);
            self.consume(used);
            if byte.is_some() {
                return Ok(byte);
            }
        }
    }

    /// Copies an element up to what ends it: whether it is too long, and whether it is the last. `None` at the end of
    /// the file.
    fn cut(&mut self, element: &mut Vec<u8>) -> io::Result<Option<(bool, bool)>> {
        let mut scan = Scan::default();
        let mut too_long = false;
        loop {
            let buffer = self.file.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let end = buffer.iter().position(|&byte| scan.ends_at(byte));
            let part = &buffer[..end.unwrap_or(buffer.len())];
            if element.len() + part.len() > MAX_LINE_BYTES as usize {
                too_long = true;
                element.clear();
            }
            if !too_long {
                element.extend_from_slice(part);
            }
            let last = end.map(|at| buffer[at] == b']');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.consume(used);
            if let Some(last) = last {
                return Ok(Some((too_long, last)));
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.file.consume(bytes);
        self.bytes_read += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What an array cuts into, however few bytes come at a time.
    fn cut(text: &[u8], at_a_time: usize) -> (Vec<Vec<u8>>, Option<String>) {
        let mut elements = Elements::new(BufReader::with_capacity(at_a_time, text));
        let (mut out, mut element) = (Vec::new(), Vec::new());
        loop {
            match elements.next(&mut element).unwrap() {
                Next::Element => out.push(element.clone()),
                Next::TooLong => out.push(b"too long".to_vec()),
                Next::End => return (out, None),
                Next::Broken(reason) => return (out, Some(reason)),
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\\[\]{},: ]{0,12}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(r#"[a-z"\\\]},]{0,4}"#, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_array_is_cut_where_a_parser_cuts_it(
            values in prop::collection::vec(any_json(), 0..6),
            at_a_time in 1_usize..20,
            pretty: bool,
        ) {
            let text = if pretty {
                serde_json::to_vec_pretty(&values).unwrap()
            } else {
                serde_json::to_vec(&values).unwrap()
            };
            let (cut, broken) = cut(&text, at_a_time);
            prop_assert_eq!(broken, None);
            let parsed: Vec<Value> = cut.iter().map(|part| serde_json::from_slice(part).unwrap()).collect();
            prop_assert_eq!(parsed, values);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(prop::sample::select(&b"[]{},\"\\ a1"[..]), 0..60)) {
            let (cut, broken) = cut(&bytes, 7);
            // What a parser takes, cutting takes too.
            if let Ok(values) = serde_json::from_slice::<Vec<Value>>(&bytes) {
                prop_assert_eq!((cut.len(), broken), (values.len(), None));
            }
        }
    }

    #[test]
    fn what_is_no_array_or_stops_within_one_is_told_after_what_was_whole() {
        assert_eq!(cut(b" \n[ ]\n", 3), (vec![], None));
        let (none, reason) = cut(b"{\"a\": [1]}", 3);
        assert!(none.is_empty() && reason.unwrap().contains("'['"));
        let (some, reason) = cut(b"[1, {\"a\": 2}, \"x", 3);
        assert_eq!((some.len(), reason.is_some()), (2, true));
        assert!(cut(b"[1] 2", 3).1.unwrap().contains("after"));
        assert_eq!(cut(b"[1,]", 3).0.len(), 2, "an element that isn't there is not passed over");
    }

    #[test]
    fn an_element_that_is_too_long_is_passed_over_and_the_next_is_read() {
        let mut text = b"[\"".to_vec();
        text.resize(MAX_LINE_BYTES as usize + 10, b'x');
        text.extend_from_slice(b"\", 7]");
        assert_eq!(cut(&text, 1 << 16).0, [b"too long".to_vec(), b" 7".to_vec()]);
    }
}
