//! The dialling side's TLS: the peer pinned, AES-128-GCM first where the processor helps with it.
//!
//! libp2p's own configuration puts `ChaCha20` first, which costs 28 % of the processor time of a transfer on a machine with AES
//! instructions. The dialler's order counts, so this side alone needs its own configuration; the
//! serving side is libp2p's. rustls' ready-made ways to present and check certificates refuse libp2p's critical extension,
//! hence the resolver and the verifier here.

use std::sync::Arc;

use libp2p::{PeerId, identity};
use libp2p_tls::certificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme, SupportedCipherSuite,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs::{
        self,
        cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use super::{BulkError, identity_error};

/// Whether this processor has instructions for AES; without them `ChaCha20` is faster, and does not leak through timing.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Cipher suites in the order in which we would have them.
fn cipher_suites(aes: bool) -> Vec<SupportedCipherSuite> {
    if aes {
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256]
    } else {
        vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384]
    }
}

/// Presents our certificate to whoever asks.
#[derive(Debug)]
struct OurCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for OurCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes the certificate of one peer and no other.
#[derive(Debug)]
struct Pinned(PeerId);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !intermediates.is_empty() {
            return Err(Error::General("a libp2p certificate has no chain".to_owned()));
        }
        // parsing proves the self-signature and that the peer's key signed for the certificate's
        if certificate::parse(certificate)?.peer_id() == self.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has no TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        certificate::parse(certificate)?.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // the libp2p libraries make P-256 keys; the others are what the certificate parser takes besides
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
        ]
    }
}

/// TLS settings for dialling `peer` with the key `ours`.
pub(super) fn config(ours: &identity::Keypair, peer: PeerId) -> Result<rustls::ClientConfig, BulkError> {
    ordered(ours, peer, has_aes())
}

fn ordered(ours: &identity::Keypair, peer: PeerId, aes: bool) -> Result<rustls::ClientConfig, BulkError> {
    let (certificate, key) = certificate::generate(ours).map_err(identity_error)?;
    let key = aws_lc_rs::sign::any_ecdsa_type(&key).map_err(identity_error)?;
    let provider =
        rustls::crypto::CryptoProvider { cipher_suites: cipher_suites(aes), ..aws_lc_rs::default_provider() };
    Ok(rustls::ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(identity_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(peer)))
        .with_client_cert_resolver(Arc::new(OurCertificate(Arc::new(CertifiedKey::new(
            vec![certificate],
            key,
        ))))))
}

#[cfg(test)]
mod tests {
    use rustls::quic::{ClientConnection, Connection, ServerConnection, Version};

    use super::*;

    /// Hands over all that one side has to say.
    fn pass(from: &mut Connection, to: &mut Connection) {
        loop {
            let mut message = Vec::new();
            let keys = from.write_hs(&mut message);
            if message.is_empty() && keys.is_none() {
                return;
            }
            to.read_hs(&message).unwrap();
        }
    }

    /// Shakes hands in memory and says which suite came of it.
    fn negotiated(aes: bool) -> rustls::CipherSuite {
        let key = |seed| identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        let peer = key(2).public().to_peer_id();
        let mut client = ordered(&key(1), peer, aes).unwrap();
        client.alpn_protocols = vec![b"libp2p".to_vec()];
        let server = libp2p_tls::make_server_config(&key(2)).unwrap();
        let name = ServerName::try_from("talkoot").unwrap();
        let mut client: Connection =
            ClientConnection::new(Arc::new(client), Version::V1, name, Vec::new()).unwrap().into();
        let mut server: Connection =
            ServerConnection::new(Arc::new(server), Version::V1, Vec::new()).unwrap().into();
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut client, &mut server);
            pass(&mut server, &mut client);
        }
        client.negotiated_cipher_suite().unwrap().suite()
    }

    #[test]
    fn the_diallers_favourite_cipher_is_taken() {
        assert_eq!(negotiated(true), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(negotiated(false), rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }
}
