//! From options and files to what a handshake needs.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use pkcs8::{EncryptedPrivateKeyInfo, SecretDocument};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::expiry;
use super::sessions::Sessions;
use crate::config::{Config, Secret, TlsClients};

/// Largest certificate, key or list of authorities that is read, bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// TLS 1.2's suites as OpenSSL calls them.
const OPENSSL_NAMES: [(&str, &str); 6] = [
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];
/// Words of OpenSSL that name more suites than there are here.
const ALL_SUITES: [&str; 4] = ["DEFAULT", "ALL", "HIGH", "COMPLEMENTOFDEFAULT"];

/// What new connections shake hands with.
pub struct Context {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// When the certificate ends, unix seconds; 0 when it does not say.
    pub not_after_s: u64,
}

/// The files of a context as they were: another size or time means that they were replaced.
pub(super) type Marks = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Context {
    /// Reads the files of these options.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn read(config: &Config) -> Result<Context, String> {
        let (cert_file, key_file) = (&config.tls_cert_file, &config.tls_key_file);
        let pass = &config.tls_key_file_pass;
        let (chain, key) = chain_and_key(config, cert_file, key_file, pass)?;
        let not_after_s = chain.first().and_then(|leaf| expiry::not_after_s(leaf));
        let provider = provider(config)?;
        let versions = versions(&config.tls_protocols)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(text)?;
        let builder = match verifier(config, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut tls = builder
            .with_single_cert(chain, key)
            .map_err(|why| format!("Failed to load certificate: {cert_file}: {why}"))?;
        tls.ignore_client_order = config.tls_prefer_server_ciphers;
        if config.tls_session_caching {
            tls.session_storage = Arc::new(Sessions::new(
                config.tls_session_cache_size,
                config.tls_session_cache_timeout_s,
            ));
        } else {
            tls.session_storage = Arc::new(NoServerSessionStorage {});
            tls.send_tls13_tickets = 0;
        }
        Ok(Context {
            config: Arc::new(tls),
            not_after_s: not_after_s.unwrap_or(0),
        })
    }
}

/// The cryptography of both sides, with the suites that the options name.
pub(super) fn provider(config: &Config) -> Result<Arc<CryptoProvider>, String> {
    Ok(Arc::new(CryptoProvider {
        cipher_suites: suites(config)?,
        ..default_provider()
    }))
}

/// A certificate with those behind it, and its private key.
pub(super) fn chain_and_key(
    config: &Config,
    cert_file: &str,
    key_file: &str,
    pass: &Secret,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    if cert_file.is_empty() {
        return Err("No tls-cert-file configured!".to_owned());
    }
    if key_file.is_empty() {
        return Err("No tls-key-file configured!".to_owned());
    }
    let chain = certificates(&below(config, cert_file))
        .map_err(|why| format!("Failed to load certificate: {cert_file}: {why}"))?;
    let key = bytes(&below(config, key_file))
        .and_then(|pem| private_key(&pem, pass.as_bytes()))
        .map_err(|why| format!("Failed to load private key: {key_file}: {why}"))?;
    Ok((chain, key))
}

pub(super) fn text(error: impl Display) -> String {
    error.to_string()
}

/// Relative paths are relative to the folder of the data.
fn below(config: &Config, path: &str) -> PathBuf {
    Path::new(&config.dir).join(path)
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::metadata(path).map_err(text)?;
    if file.len() > FILE_BYTES_MAX {
        return Err("the file is too large".to_owned());
    }
    std::fs::read(path).map_err(text)
}

/// The first private key of a file, which may be in PKCS#8 under a pass phrase.
fn private_key(pem: &[u8], pass: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let why = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => return Ok(key),
        Err(why) => why,
    };
    let encrypted = core::str::from_utf8(pem)
        .ok()
        .and_then(|pem| SecretDocument::from_pem(pem).ok())
        .filter(|(label, _)| *label == "ENCRYPTED PRIVATE KEY");
    let Some((_, encrypted)) = encrypted else {
        return Err(text(why));
    };
    if pass.is_empty() {
        return Err("it has a pass phrase, and tls-key-file-pass gives none".to_owned());
    }
    let key = EncryptedPrivateKeyInfo::try_from(encrypted.as_bytes())
        .and_then(|encrypted| encrypted.decrypt(pass))
        .map_err(|why| format!("{why}; is tls-key-file-pass right?"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = bytes(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(text)?;
    if found.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(found)
}

/// How clients' certificates are looked at; None for not at all.
fn verifier(
    config: &Config,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if config.tls_auth_clients == TlsClients::No {
        return Ok(None);
    }
    if config.tls_ca_cert_file.is_empty() && config.tls_ca_cert_dir.is_empty() {
        return Err("Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-auth-clients is enabled!".to_owned());
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(config)?), provider);
    let builder = match config.tls_auth_clients {
        TlsClients::Optional => builder.allow_unauthenticated(),
        TlsClients::Yes | TlsClients::No => builder,
    };
    builder.build().map(Some).map_err(text)
}

/// The authorities that are trusted.
pub(super) fn roots(config: &Config) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for path in authorities(config) {
        // A folder may hold other files too; the one file must be right.
        let found = match certificates(&path) {
            Ok(found) => found,
            Err(why) if path == below(config, &config.tls_ca_cert_file) => {
                return Err(format!(
                    "Failed to configure CA certificate(s) file/directory: {why}"
                ));
            }
            Err(_) => continue,
        };
        roots.add_parsable_certificates(found);
    }
    if roots.is_empty() {
        return Err(
            "Failed to configure CA certificate(s) file/directory: no certificate in it".to_owned(),
        );
    }
    Ok(roots)
}

/// The files that hold authorities.
fn authorities(config: &Config) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if !config.tls_ca_cert_file.is_empty() {
        paths.push(below(config, &config.tls_ca_cert_file));
    }
    if !config.tls_ca_cert_dir.is_empty() {
        let entries = std::fs::read_dir(below(config, &config.tls_ca_cert_dir));
        let entries = entries.into_iter().flatten().flatten();
        paths.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_file()),
        );
    }
    paths.sort();
    paths
}

/// What the files are now; never fails, since a file that is not there may come.
pub(super) fn marks(config: &Config) -> Marks {
    let own = [&config.tls_cert_file, &config.tls_key_file];
    let own = own.into_iter().map(|path| below(config, path));
    let all = own.chain(authorities(config));
    all.map(|path| {
        let file = std::fs::metadata(&path).ok();
        let mark = file.and_then(|file| Some((file.modified().ok()?, file.len())));
        (path, mark)
    })
    .collect()
}

/// `tls-protocols`. Versions before 1.2 are not spoken: they are passed over if there is another.
pub(super) fn versions(words: &str) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    if words.is_empty() {
        return Ok(vec![&TLS12, &TLS13]);
    }
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    for word in words.split_ascii_whitespace() {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => versions.push(&TLS12),
            "tlsv1.3" => versions.push(&TLS13),
            "tlsv1" | "tlsv1.1" => {}
            _ => return Err("Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2' and 'TLSv1.3'.".to_owned()),
        }
    }
    if versions.is_empty() {
        return Err("tls-protocols: only TLSv1.2 and TLSv1.3 are spoken".to_owned());
    }
    Ok(versions)
}

/// The suites of `tls-ciphersuites` (1.3) and `tls-ciphers` (1.2), in the order given.
fn suites(config: &Config) -> Result<Vec<SupportedCipherSuite>, String> {
    let is_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    let name = |suite: &SupportedCipherSuite| {
        // OpenSSL calls 1.3's suites TLS_..., rustls TLS13_...
        let name = format!("{:?}", suite.suite());
        name.replacen("TLS13_", "TLS_", 1)
    };
    let all = |new: bool| {
        ALL_CIPHER_SUITES
            .iter()
            .filter(move |suite| is_13(suite) == new)
    };
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    if config.tls_ciphersuites.is_empty() {
        chosen.extend(all(true));
    }
    for word in config
        .tls_ciphersuites
        .split(':')
        .filter(|word| !word.is_empty())
    {
        chosen.extend(all(true).filter(|suite| name(suite).eq_ignore_ascii_case(word)));
    }
    if chosen.is_empty() {
        return Err(format!(
            "Failed to configure ciphersuites: {}",
            config.tls_ciphersuites
        ));
    }
    let before = chosen.len();
    if config.tls_ciphers.is_empty() {
        chosen.extend(all(false));
    }
    let words = config.tls_ciphers.split([':', ',', ' ']);
    for word in words.filter(|word| !word.is_empty()) {
        if ALL_SUITES.contains(&word) {
            chosen.extend(all(false));
        }
        // What is taken away (`!MEDIUM`) or sorted (`@STRENGTH`) is not here in the first place.
        let known = OPENSSL_NAMES.iter().find(|(theirs, _)| *theirs == word);
        if let Some((_, ours)) = known {
            chosen.extend(all(false).filter(|suite| name(suite) == *ours));
        }
    }
    if chosen.len() == before {
        return Err(format!(
            "Failed to configure ciphers: {}",
            config.tls_ciphers
        ));
    }
    Ok(chosen)
}
