use std::io::Cursor;

use ::tar::{Builder, EntryType, Header};
use proptest::prelude::*;

use super::*;

fn add(builder: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
}

fn walk(bytes: &[u8]) -> (Vec<Member>, Option<TarFault>) {
    let mut walk = Walk::new(Cursor::new(bytes), bytes.len() as u64);
    let mut members = Vec::new();
    loop {
        match walk.next_member().unwrap() {
            Ok(Some(member)) => members.push(member),
            Ok(None) => return (members, None),
            Err(fault) => return (members, Some(fault)),
        }
    }
}

#[test]
fn members_are_found_where_their_bytes_are_whatever_their_names() {
    let long = format!("{}/{}.jpg", "folder".repeat(20), "name".repeat(30));
    let contents: [(&str, &[u8]); 4] =
        [("a.jpg", b"first"), (&long, b""), ("ä/b.txt", &[9; 1024]), ("c", b"x")];
    let mut builder = Builder::new(Vec::new());
    for (name, content) in contents {
        add(&mut builder, name, content);
    }
    let bytes = builder.into_inner().unwrap();
    let (members, fault) = walk(&bytes);
    assert_eq!((members.len(), fault), (4, None));
    for (member, (name, content)) in members.iter().zip(contents) {
        assert_eq!((member.name.as_str(), member.foreign), (name, None));
        assert_eq!(&bytes[member.offset as usize..][..member.bytes as usize], content);
    }
    // Two tars, one after the other, and a last block whose padding is missing.
    let twice = [&bytes[..], &bytes[..bytes.len() - 1024 - 511]].concat();
    assert_eq!(walk(&twice).0.len(), 8);
    assert_eq!(walk(&twice).1, None);
}

#[test]
fn pax_records_give_name_and_length() {
    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions([("path", &b"a very good name.png"[..]), ("size", b"5")]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(0);
    header.set_path("short").unwrap();
    header.set_cksum();
    builder.append(&header, &b""[..]).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    // The header says that nothing follows, the records that 5 bytes do: they are put there.
    let end = bytes.len() - 1024;
    bytes.splice(end..end, [7; 512]);
    let (members, fault) = walk(&bytes);
    assert_eq!(fault, None);
    assert_eq!((members[0].name.as_str(), members[0].bytes), ("a very good name.png", 5));
}

#[test]
fn what_is_no_plain_file_is_told_as_what_it_is() {
    let mut builder = Builder::new(Vec::new());
    for (sort, name) in
        [(EntryType::Symlink, "s.jpg"), (EntryType::Link, "l.jpg"), (EntryType::Char, "c.jpg")]
    {
        let mut header = Header::new_ustar();
        header.set_entry_type(sort);
        header.set_size(0);
        header.set_path(name).unwrap();
        header.set_link_name("/etc/hostname").unwrap();
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
    }
    let (members, fault) = walk(&builder.into_inner().unwrap());
    let foreign: Vec<_> = members.iter().filter_map(|member| member.foreign).collect();
    assert_eq!((foreign, fault), (vec!["a symbolic link", "a link", "no plain file"], None));
}

#[test]
fn a_length_that_lies_ends_the_walk_and_takes_no_memory() {
    for size in [600, 1 << 40, u64::MAX >> 1] {
        let mut builder = Builder::new(Vec::new());
        add(&mut builder, "good.txt", b"here");
        let mut bytes = builder.into_inner().unwrap();
        let mut header = Header::new_gnu();
        header.set_path("lie.txt").unwrap();
        header.set_size(size);
        header.set_cksum();
        let end = bytes.len() - 1024;
        bytes.splice(end.., header.as_bytes().iter().copied().chain([1; 512]));
        let (members, fault) = walk(&bytes);
        assert_eq!(members.len(), 1, "what stands before the lie is taken");
        assert!(matches!(fault, Some(TarFault::CutOff { got: 512, .. })), "{fault:?}");
    }
}

#[test]
fn names_without_end_are_refused() {
    for flag in [EntryType::GNULongName, EntryType::XHeader] {
        let mut header = Header::new_gnu();
        header.set_entry_type(flag);
        header.set_size(1 << 20);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(512 + (1 << 20), b'a');
        assert!(matches!(walk(&bytes).1, Some(TarFault::TooLong { .. })));
    }
}

proptest! {
    #[test]
    fn damaged_tars_come_to_an_end(
        names in prop::collection::vec("[a-z.]{1,120}", 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut builder = Builder::new(Vec::new());
        for name in &names {
            add(&mut builder, &format!("x{name}"), name.as_bytes());
        }
        let mut bytes = builder.into_inner().unwrap();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let (members, _) = walk(&bytes);
        for member in members {
            prop_assert!(member.offset + member.bytes <= bytes.len() as u64);
        }
    }

    #[test]
    fn any_bytes_are_no_tar_or_one(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        walk(&bytes);
    }
}
