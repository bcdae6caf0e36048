//! The members of one record.

use std::collections::BTreeSet;

use talkoot_dataset::{PictureRef, RejectKind, ingest::Fault, sample::MAX_PICTURES};

use crate::tar::Member;

/// Most members of a record: pictures and a text, and some that nobody needs.
const MAX_MEMBERS: usize = 2 * MAX_PICTURES;

/// What a member is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Picture,
    Video,
    Json,
    Caption,
    Other,
}

/// Members with one key.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) key: String,
    pub(super) pictures: Vec<Member>,
    pub(super) videos: Vec<Member>,
    pub(super) json: Option<Member>,
    pub(super) caption: Option<Member>,
    /// Members that are none of these.
    pub(super) unused: u64,
    /// Why no record can be made of them.
    pub(super) fault: Option<String>,
    names: BTreeSet<String>,
}

/// The key of a member, and what it is.
pub(super) fn part_of(name: &str) -> (String, Part) {
    let base = name.rfind('/').map_or(0, |at| at + 1);
    let Some(dot) = name[base..].find('.').map(|at| base + at).filter(|&dot| dot > base) else {
        return (name.to_owned(), Part::Other);
    };
    let (key, ending) = (&name[..dot], &name[dot + 1..]);
    let last = ending.rsplit('.').next().unwrap_or(ending).to_ascii_lowercase();
    let part = match last.as_str() {
        "jpg" | "jpeg" | "png" | "webp" | "gif" | "bmp" | "tif" | "tiff" | "avif" | "image" | "img" => {
            Part::Picture
        }
        "mp4" | "mkv" | "webm" | "mov" | "avi" | "m4v" => Part::Video,
        "json" => Part::Json,
        "txt" | "caption" | "text" => Part::Caption,
        _ => Part::Other,
    };
    (key.to_owned(), part)
}

impl Group {
    pub(super) fn new(key: String) -> Self {
        Self { key, ..Self::default() }
    }

    pub(super) fn add(&mut self, part: Part, member: Member) {
        if self.fault.is_some() {
            return;
        }
        if let Some(what) = member.foreign {
            self.fault =
                Some(format!("{:?} is {what}; only plain files can be read in an archive", member.name));
        } else if self.names.len() >= MAX_MEMBERS {
            self.fault = Some(format!("{:?} has more than {MAX_MEMBERS} members", self.key));
        } else if !self.names.insert(member.name.clone()) {
            self.fault = Some(format!("{:?} is there twice", member.name));
        } else {
            match part {
                Part::Picture => self.pictures.push(member),
                Part::Video => self.videos.push(member),
                Part::Json if self.json.is_none() => self.json = Some(member),
                Part::Caption if self.caption.is_none() => self.caption = Some(member),
                Part::Json | Part::Caption | Part::Other => self.unused += 1,
            }
        }
    }
}

impl Member {
    /// Where this picture lies.
    pub(super) fn place(&self, root: &str, file: &str) -> PictureRef {
        PictureRef {
            root: root.to_owned(),
            path: file.to_owned(),
            offset: Some(self.offset),
            bytes: self.bytes,
            width: None,
            height: None,
        }
    }

    /// Whether `named`, from the record's JSON, means this member: its name, its last part, or what follows its key.
    fn is_called(&self, named: &str, key: &str) -> bool {
        let last = |path: &str| path.rsplit('/').next().unwrap_or("").to_owned();
        self.name == named
            || last(&self.name) == last(named)
            || self.name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')) == Some(named)
    }
}

/// The pictures in the order in which the record names them, if its names are those of members; else as they lie.
pub(super) fn in_order<'a>(group: &'a Group, named: &[String]) -> Result<Vec<&'a Member>, Fault> {
    let find = |name: &String| group.pictures.iter().find(|member| member.is_called(name, &group.key));
    let found: Option<Vec<&Member>> = named.iter().map(find).collect();
    match found {
        Some(found) if !named.is_empty() => Ok(found),
        _ if named.is_empty() || named.len() == group.pictures.len() => Ok(group.pictures.iter().collect()),
        _ => {
            let reason = format!(
                "{:?} names {} pictures ({:?}, …), and has {} beside it with other names",
                group.key,
                named.len(),
                named[0].chars().take(80).collect::<String>(),
                group.pictures.len()
            );
            Err((RejectKind::MissingPicture, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_key_and_what_follows_its_first_dot() {
        for (name, key, part) in [
            ("000041.jpg", "000041", Part::Picture),
            ("a.b/000041.img0.PNG", "a.b/000041", Part::Picture),
            ("x/y.json", "x/y", Part::Json),
            ("y.caption.txt", "y", Part::Caption),
            ("y.mp4", "y", Part::Video),
            ("y.cls", "y", Part::Other),
            ("README", "README", Part::Other),
            ("d/.hidden", "d/.hidden", Part::Other),
        ] {
            assert_eq!(part_of(name), (key.to_owned(), part), "{name}");
        }
    }

    #[test]
    fn pictures_come_as_they_are_named_or_as_they_lie() {
        let mut group = Group::new("k".into());
        for name in ["k.img0.jpg", "k.img1.jpg"] {
            let member = Member { name: name.into(), offset: 0, bytes: 1, foreign: None };
            group.add(Part::Picture, member);
        }
        let order = |named: &[&str]| {
            let named: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
            in_order(&group, &named).map(|found| found.iter().map(|m| m.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(order(&["img1.jpg", "img0.jpg"]).unwrap(), ["k.img1.jpg", "k.img0.jpg"]);
        assert_eq!(order(&["elsewhere/k.img1.jpg"]).unwrap(), ["k.img1.jpg"]);
        assert_eq!(order(&["x/one.png", "x/two.png"]).unwrap(), ["k.img0.jpg", "k.img1.jpg"]);
        assert_eq!(order(&[]).unwrap().len(), 2);
        assert_eq!(order(&["x/one.png"]).unwrap_err().0, RejectKind::MissingPicture);
    }
}
