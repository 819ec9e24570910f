//! The server as a client of TLS: MIGRATE's way to another server when `tls-cluster` is on.
//!
//! As in Redis it shows the certificate of `tls-client-cert-file`, or else its own; the other server's must come from the
//! authorities of `tls-ca-cert-file` or `tls-ca-cert-dir`, whatever name it bears: servers are reached by address.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::context::{chain_and_key, provider, roots, text, versions};
use crate::config::Config;

/// What this server shows another, and what it asks of it, as the options say now.
///
/// # Errors
/// What is missing or wrong.
pub fn client_config(config: &Config) -> Result<Arc<ClientConfig>, String> {
    if config.tls_ca_cert_file.is_empty() && config.tls_ca_cert_dir.is_empty() {
        return Err(
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster is enabled!"
                .to_owned(),
        );
    }
    let is_own = config.tls_client_cert_file.is_empty() || config.tls_client_key_file.is_empty();
    let (cert, key, pass) = if is_own {
        (
            &config.tls_cert_file,
            &config.tls_key_file,
            &config.tls_key_file_pass,
        )
    } else {
        (
            &config.tls_client_cert_file,
            &config.tls_client_key_file,
            &config.tls_client_key_file_pass,
        )
    };
    let (chain, key) = chain_and_key(config, cert, key, pass)?;
    let provider = provider(config)?;
    let verifier = Authorities {
        roots: roots(config)?,
        algorithms: provider.signature_verification_algorithms,
    };
    let mut tls = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider))
        .with_protocol_versions(&versions(&config.tls_protocols)?)
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(|why| format!("Failed to load certificate: {cert}: {why}"))?;
    tls.resumption = Resumption::disabled();
    tls.enable_sni = false;
    Ok(Arc::new(tls))
}

/// A certificate is good when one of these authorities stands behind it.
#[derive(Debug)]
struct Authorities {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A socket with TLS on it; it blocks.
pub struct Sealed {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Sealed {
    /// Shakes hands, within a time.
    ///
    /// # Errors
    /// When the other end does not answer in time, hangs up, or is not one to be trusted.
    pub fn new(
        config: Arc<ClientConfig>,
        socket: TcpStream,
        timeout: Duration,
    ) -> io::Result<Sealed> {
        let address: IpAddr = socket.peer_addr()?.ip();
        let tls = ClientConnection::new(config, address.into()).map_err(io::Error::other)?;
        let mut sealed = Sealed { tls, socket };
        let until = Instant::now() + timeout;
        // (The last message of the handshake may be ours.)
        while sealed.tls.is_handshaking() || sealed.tls.wants_write() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sealed.socket.set_read_timeout(Some(left))?;
            sealed.socket.set_write_timeout(Some(left))?;
            sealed.step()?;
        }
        Ok(sealed)
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends what is to be sent, or else takes in what the other end has sent.
    fn step(&mut self) -> io::Result<()> {
        if self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
            return Ok(());
        }
        if self.tls.read_tls(&mut self.socket)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(why) = self.tls.process_new_packets() {
            // It is to hear why.
            let _heard = self.tls.write_tls(&mut self.socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(())
    }
}

impl Read for Sealed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.step()?,
                read => return read,
            }
        }
    }
}

impl Write for Sealed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.tls.writer().write(buf)?;
        self.flush()?;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}
