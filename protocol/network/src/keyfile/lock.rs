//! A key under a passphrase.
//!
//! ```text
//! talkoot-secret-key-v2 argon2id m=65536 t=3 p=4 <salt, 32 hex> <sealed, 96 hex>
//!
//! key    = argon2id(passphrase, salt; m KiB, t passes, p lanes), 32 bytes
//! sealed = chacha20-poly1305(key, nonce 0, the 32 secret bytes; everything before it on the line is authenticated too)
//! ```
//! The nonce is zero because no key is used twice: each sealing draws a salt.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

/// First word of the line.
pub(super) const LOCKED: &str = "talkoot-secret-key-v2";

const SALT_BYTES: usize = 16;

/// What deriving a key costs: the second choice of RFC 9106, section 4, for machines without 2 GiB to spare.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

/// The most that a file may ask for: it may come from somebody else.
const MOST: Cost = Cost { memory_kib: 1 << 20, passes: 16, lanes: 16 };

/// What deriving a key from a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Why a locked line does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It is no locked line, or asks for more than it may.
    Malformed,
    /// Another passphrase, or a line that was changed.
    Refused,
}

/// The line for a secret under a passphrase. `random` are 16 bytes that were never used before.
pub(super) fn seal(secret: &[u8; 32], passphrase: &str, random: &[u8; SALT_BYTES]) -> Option<String> {
    seal_at(COST, secret, passphrase, random)
}

fn seal_at(cost: Cost, secret: &[u8; 32], passphrase: &str, random: &[u8; SALT_BYTES]) -> Option<String> {
    let Cost { memory_kib, passes, lanes } = cost;
    let head = format!("{LOCKED} argon2id m={memory_kib} t={passes} p={lanes} {}", HEXLOWER.encode(random));
    let payload = Payload { msg: secret, aad: head.as_bytes() };
    let sealed = cipher(cost, passphrase, random)?.encrypt(&Nonce::default(), payload).ok()?;
    Some(format!("{head} {}\n", HEXLOWER.encode(&sealed)))
}

/// The secret in a locked line.
pub(super) fn open(line: &str, passphrase: &str) -> Result<Zeroizing<[u8; 32]>, Unopened> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let (head, sealed) = line.rsplit_once(' ').ok_or(Unopened::Malformed)?;
    let (cost, salt) = read_head(head).ok_or(Unopened::Malformed)?;
    let sealed = HEXLOWER.decode(sealed.as_bytes()).map_err(|_| Unopened::Malformed)?;
    let payload = Payload { msg: &sealed, aad: head.as_bytes() };
    let cipher = cipher(cost, passphrase, &salt).ok_or(Unopened::Malformed)?;
    let secret = cipher.decrypt(&Nonce::default(), payload).map_err(|_| Unopened::Refused)?;
    let secret = Zeroizing::new(secret);
    let secret: [u8; 32] = secret.as_slice().try_into().map_err(|_| Unopened::Malformed)?;
    Ok(Zeroizing::new(secret))
}

fn read_head(head: &str) -> Option<(Cost, [u8; SALT_BYTES])> {
    let mut words = head.split(' ');
    if (words.next()?, words.next()?) != (LOCKED, "argon2id") {
        return None;
    }
    let mut number = |name: &str| words.next()?.strip_prefix(name)?.parse::<u32>().ok();
    let cost = Cost { memory_kib: number("m=")?, passes: number("t=")?, lanes: number("p=")? };
    let bearable =
        cost.memory_kib <= MOST.memory_kib && cost.passes <= MOST.passes && cost.lanes <= MOST.lanes;
    let salt = HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?;
    (bearable && words.next().is_none()).then_some((cost, salt))
}

fn cipher(cost: Cost, passphrase: &str, salt: &[u8]) -> Option<ChaCha20Poly1305> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .ok()?;
    ChaCha20Poly1305::new_from_slice(key.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    #[test]
    fn a_sealed_secret_opens_with_its_passphrase_alone_and_only_unchanged() {
        let line = seal_at(CHEAP, &[7; 32], "open sesame", &[1; 16]).unwrap();
        assert_eq!(open(&line, "open sesame").unwrap().as_slice(), [7; 32]);
        assert_eq!(open(&line, "open sesam").unwrap_err(), Unopened::Refused);
        for (from, to) in [("t=1", "t=2"), ("m=64", "m=72"), ("01010101", "01010102")] {
            assert_eq!(open(&line.replacen(from, to, 1), "open sesame").unwrap_err(), Unopened::Refused);
        }
        let mut changed = line.clone().into_bytes();
        let last = changed.len() - 2;
        changed[last] = if changed[last] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(open(&changed, "open sesame").unwrap_err(), Unopened::Refused);
    }

    #[test]
    fn a_file_cannot_ask_for_more_memory_than_it_may() {
        let line = seal_at(CHEAP, &[7; 32], "p", &[1; 16]).unwrap();
        for (from, to) in [("m=64", "m=4294967295"), ("t=1", "t=99"), ("p=1", "p=99"), ("m=64", "m=-1")] {
            assert_eq!(open(&line.replacen(from, to, 1), "p").unwrap_err(), Unopened::Malformed, "{to}");
        }
    }

    /// Made with other people's programs: Python's `cryptography`, which asks OpenSSL.
    #[test]
    fn others_make_the_same_line() {
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let line = seal_at(cost, &[7; 32], "open sesame", &[1; 16]).unwrap();
        assert_eq!(line, include_str!("locked.example"));
    }
}
