//! The rules by name, and what is said of a sample that breaks one.

use serde::{Deserialize, Serialize};
use talkoot_dataset::{Reject, RejectKind, Sample, SampleId};

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $name:literal $remedy:literal,)*) => {
        /// A rule. The order is that of the examination: the first rule that a sample breaks is its reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* #[serde(rename = $name)] $rule,)*
        }

        impl Rule {
            /// All rules, in order.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// Its name: the key of its limit in the configuration, where it has one.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// What the owner of the data can do.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$rule => $remedy,)* }
            }
        }
    };
}

rules! {
    /// A picture can be found, read and decoded.
    Readable "picture.readable" "put a whole PNG, JPEG or WebP where the list says, or take the record out",
    /// A picture has sides long enough.
    Side "picture.min_side" "find a larger version of the picture, or lower picture.min_side",
    /// A picture is not too long for its width.
    Aspect "picture.max_aspect" "cut the picture into pieces; none can be prepared beyond 200",
    /// A picture shows something.
    Blank "picture.min_deviation" "take the record out, or lower picture.min_deviation",
    /// An answer is long enough.
    Short "answer.min_characters" "write a fuller answer, or lower answer.min_characters",
    /// An answer is short enough.
    Long "answer.max_characters" "shorten the answer, or raise answer.max_characters",
    /// An answer does not say one word over and over.
    Repeated "answer.repeated_words" "write the answer again, or raise answer.repeated_words",
    /// An answer answers.
    Refusal "refusal.openings" "write an answer, or take the words out of refusal.openings",
    /// No mark of another layout is left.
    Mark "mark.foreign" "write <image> for each picture where the mark stands, or take it out of mark.foreign",
    /// The answers are in a language that is wanted.
    Language "language.allowed" "translate the answers, or add the language to language.allowed",
    /// The sample is good enough.
    Quality "score.min_quality" "lower score.min_quality",
    /// The sample is not nearly the same as a better one.
    Duplicate "duplicate" "nothing, the better one is kept; or change what counts as a duplicate",
}

impl Rule {
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A rule that is broken, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// Where and how: what was measured.
    pub measured: String,
    /// What it may be.
    pub limit: String,
}

impl Broken {
    pub(crate) fn new(rule: Rule, measured: impl Into<String>, limit: impl Into<String>) -> Self {
        Self { rule, measured: measured.into(), limit: limit.into() }
    }
}

/// A sample that was left out: one line of the rejects file, which is a [`Reject`] with more to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The sample. Its origin, which is flattened too, has an `id` of its own: the record's.
    #[serde(rename = "sample")]
    pub id: SampleId,
    /// Where it stands, what is wrong, what to do.
    #[serde(flatten)]
    pub reject: Reject,
    /// All rules that it breaks; the first one gave the reason.
    pub broken: Vec<Broken>,
}

impl Dropped {
    /// The line for a sample that breaks `broken`, which must not be empty, for reasons of `kind`.
    pub(crate) fn new(sample: &Sample, kind: RejectKind, broken: Vec<Broken>) -> Self {
        let reason =
            |broken: &Broken| format!("{}: {}; {}", broken.rule.name(), broken.measured, broken.limit);
        let reject = Reject {
            origin: sample.origin.clone(),
            kind,
            reason: broken.iter().map(reason).collect::<Vec<_>>().join(" | "),
            remedy: broken.first().map_or(String::new(), |broken| broken.rule.remedy().to_owned()),
        };
        Self { id: sample.id, reject, broken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_and_a_bit_of_its_own() {
        let names: std::collections::BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        let bits = Rule::ALL.iter().fold(0, |bits, rule| bits | rule.bit());
        assert_eq!(bits.count_ones() as usize, Rule::ALL.len());
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_string(rule).unwrap(), format!("{:?}", rule.name()));
        }
    }
}
