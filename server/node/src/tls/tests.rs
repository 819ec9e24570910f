//! TLS against a client that is rustls too, over a bench without sockets.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{LineEnding, PrivateKeyInfo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion,
};

use super::HANDSHAKE_MS_MAX;
use crate::config::{Config, TlsClients};
use crate::testing::{Bench, Client, START_MS};

/// A folder with an authority, a server's certificate and a client's.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!("meridian-tls-{}-{number}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        folder.make("");
        folder
    }

    /// Writes all files; `mark` goes before their names.
    fn make(&self, mark: &str) {
        let write = |name: &str, text: &str| {
            std::fs::write(self.0.join(format!("{mark}{name}")), text).unwrap();
        };
        let authority_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        write("ca.pem", &authority.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = date_time_ymd(2034, 1, 1);
            let certificate = params.signed_by(&key, &authority, &authority_key).unwrap();
            write(&format!("{name}.pem"), &certificate.pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The server's options.
    fn serve(&self, config: &mut Config) {
        config.tls_port = 1;
        config.tls_cert_file = self.path("server.pem");
        config.tls_key_file = self.path("server.key");
        config.tls_ca_cert_file = self.path("ca.pem");
        config.tls_auth_clients = TlsClients::No;
    }

    /// What a client trusts and shows.
    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: bool,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let pem = |name: &str| std::fs::read(self.0.join(name)).unwrap();
        let authority = CertificateDer::from_pem_slice(&pem("ca.pem")).unwrap();
        roots.add(authority).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if shows {
            let certificate = CertificateDer::from_pem_slice(&pem("client.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&pem("client.key")).unwrap();
            builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}

/// A client's end.
struct Peer {
    tls: ClientConnection,
    client: Client,
}

impl Peer {
    fn connect(bench: &mut Bench, core: usize, config: &Arc<ClientConfig>) -> Peer {
        let name = "localhost".try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        tls.set_buffer_limit(None);
        let client = bench.connect_tls(core);
        Peer { tls, client }
    }

    /// Carries bytes to and fro, so many at a time, until both are silent; the text received.
    fn pump(&mut self, bench: &mut Bench, piece: usize) -> Result<String, rustls::Error> {
        let mut text = Vec::new();
        loop {
            let mut sent = Vec::new();
            while self.tls.wants_write() {
                self.tls.write_tls(&mut sent).unwrap();
            }
            sent.chunks(piece)
                .for_each(|part| bench.send(self.client, part));
            let received = bench.received(self.client);
            if sent.is_empty() && received.is_empty() {
                return Ok(String::from_utf8(text).unwrap());
            }
            let mut rest = received.as_slice();
            while !rest.is_empty() {
                self.tls.read_tls(&mut rest).unwrap();
                let state = self.tls.process_new_packets()?;
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                self.tls.reader().read_exact(&mut plain).unwrap();
                text.extend_from_slice(&plain);
            }
        }
    }

    fn call(&mut self, bench: &mut Bench, requests: &str) -> String {
        self.tls.writer().write_all(requests.as_bytes()).unwrap();
        self.pump(bench, 4096).unwrap()
    }
}

#[test]
fn tls_and_plain_clients_share_a_server() {
    let folder = Folder::new();
    for (version, cores, piece) in [(&TLS12, 1, 1), (&TLS13, 2, 7), (&TLS13, 2, 4096)] {
        let mut bench = Bench::with(cores, |config| folder.serve(config));
        let plain = bench.connect(0);
        let mut peer = Peer::connect(&mut bench, cores - 1, &folder.client(&[version], false));
        peer.tls
            .writer()
            .write_all(b"SET a 1\r\nGET a\r\n")
            .unwrap();
        assert_eq!(peer.pump(&mut bench, piece).unwrap(), "+OK\r\n$1\r\n1\r\n");
        assert_eq!(bench.call(plain, "GET a"), "$1\r\n1\r\n");
        // Larger than a record, and than what is received at once, both ways.
        let value = "x".repeat(300_000);
        let set = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$300000\r\n{value}\r\n");
        assert_eq!(peer.call(&mut bench, &set), "+OK\r\n");
        let pipeline = "GET big\r\nPING\r\n".repeat(5);
        let reply = format!("$300000\r\n{value}\r\n+PONG\r\n").repeat(5);
        assert!(peer.call(&mut bench, &pipeline) == reply);
        // The end is told by both.
        assert_eq!(peer.call(&mut bench, "QUIT\r\n"), "+OK\r\n");
        assert!(bench.is_closed(peer.client));
        let mut leaver = Peer::connect(&mut bench, 0, &folder.client(&[version], false));
        assert_eq!(leaver.call(&mut bench, "PING\r\n"), "+PONG\r\n");
        leaver.tls.send_close_notify();
        leaver.pump(&mut bench, 4096).unwrap();
        bench.advance(5);
        assert!(bench.is_closed(leaver.client));
    }
}

#[test]
fn who_does_not_speak_tls_or_takes_too_long_is_closed() {
    let folder = Folder::new();
    let mut bench = Bench::with(1, |config| folder.serve(config));
    let garbage: [&[u8]; 3] = [b"PING\r\n", &[0; 4096], &[0x16, 3, 1, 0xff, 0xff, 1]];
    for bytes in garbage {
        let client = bench.connect_tls(0);
        bench.send(client, bytes);
        assert!(bench.is_closed(client), "{bytes:?}");
        let reply = bench.received(client);
        assert!(reply.is_empty() || reply[0] == 0x15, "nothing or an alert");
    }
    let slow = bench.connect_tls(0);
    let mut fast = Peer::connect(&mut bench, 0, &folder.client(&[&TLS13], false));
    assert_eq!(fast.call(&mut bench, "PING\r\n"), "+PONG\r\n");
    bench.send(slow, &[0x16, 3, 1]);
    bench.advance(HANDSHAKE_MS_MAX - 1);
    assert!(!bench.is_closed(slow));
    bench.advance(1);
    assert!(bench.is_closed(slow) && !bench.is_closed(fast.client));
    // After the handshake a record that was tampered with ends the connection too.
    bench.send(
        fast.client,
        &[
            0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
            20,
        ],
    );
    assert!(bench.is_closed(fast.client));
}

#[test]
fn certificates_of_clients_are_asked_for() {
    let folder = Folder::new();
    let other = Folder::new();
    let cases = [
        (TlsClients::No, [true, true, true]),
        (TlsClients::Optional, [true, true, false]),
        (TlsClients::Yes, [false, true, false]),
    ];
    for (ask, expected) in cases {
        let mut bench = Bench::with(1, |config| {
            folder.serve(config);
            config.tls_auth_clients = ask;
        });
        // None, a good one, one of another authority (whose server's the client must trust all the same).
        std::fs::copy(folder.path("ca.pem"), other.path("ca.pem")).unwrap();
        let shown = [(&folder, false), (&folder, true), (&other, true)];
        for ((from, shows), expected) in shown.into_iter().zip(expected) {
            let mut peer = Peer::connect(&mut bench, 0, &from.client(&[&TLS13], shows));
            peer.tls.writer().write_all(b"PING\r\n").unwrap();
            let reply = peer.pump(&mut bench, 4096);
            assert_eq!(
                reply.as_deref() == Ok("+PONG\r\n"),
                expected,
                "{ask:?}: {reply:?}"
            );
            assert_eq!(bench.is_closed(peer.client), !expected);
        }
    }
}

#[test]
fn sessions_protocols_and_suites_are_as_configured() {
    let folder = Folder::new();
    for caching in [true, false] {
        for version in [&TLS12, &TLS13] {
            let mut bench = Bench::with(1, |config| {
                folder.serve(config);
                config.tls_session_caching = caching;
            });
            let config = folder.client(&[version], false);
            let mut first = Peer::connect(&mut bench, 0, &config);
            assert_eq!(first.call(&mut bench, "PING\r\n"), "+PONG\r\n");
            let mut again = Peer::connect(&mut bench, 0, &config);
            assert_eq!(again.call(&mut bench, "PING\r\n"), "+PONG\r\n");
            let resumed = again.tls.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, caching);
        }
    }
    let mut bench = Bench::with(1, |config| {
        folder.serve(config);
        config.tls_protocols = "TLSv1.1 TLSv1.2".to_owned();
        config.tls_ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:!MEDIUM".to_owned();
    });
    let mut peer = Peer::connect(&mut bench, 0, &folder.client(&[&TLS12, &TLS13], false));
    assert_eq!(peer.call(&mut bench, "PING\r\n"), "+PONG\r\n");
    assert_eq!(peer.tls.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let suite = peer.tls.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
}

#[test]
fn changed_options_serve_new_connections_and_wrong_ones_change_nothing() {
    let folder = Folder::new();
    folder.make("new-");
    let mut bench = Bench::with(2, |config| folder.serve(config));
    let admin = bench.connect(0);
    let mut old = Peer::connect(&mut bench, 1, &folder.client(&[&TLS13], false));
    assert_eq!(old.call(&mut bench, "PING\r\n"), "+PONG\r\n");
    let days = (2_019_686_400_000 - START_MS) / 86_400_000;
    let info = bench.call(admin, "INFO meridian");
    assert!(
        info.contains(&format!("\r\ntls_certificate_days_left:{days}\r\n")),
        "{info}"
    );
    let (cert, key) = (folder.path("new-server.pem"), folder.path("new-server.key"));
    let wrong = [
        format!("tls-cert-file {cert}"),
        "tls-cert-file /nosuch".to_owned(),
        "tls-auth-clients yes tls-ca-cert-file /nosuch".to_owned(),
        "tls-protocols TLSv9".to_owned(),
        "tls-protocols TLSv1.1".to_owned(),
        "tls-ciphersuites NONE".to_owned(),
    ];
    for options in wrong {
        let reply = bench.call(admin, &format!("CONFIG SET {options}"));
        assert!(
            reply.contains(" - Unable to update TLS configuration. "),
            "{reply}"
        );
    }
    let set = format!("CONFIG SET tls-cert-file {cert} tls-key-file {key}");
    assert_eq!(bench.call(admin, &set), "+OK\r\n");
    assert_eq!(old.call(&mut bench, "PING\r\n"), "+PONG\r\n");
    let mut distrusting = Peer::connect(&mut bench, 0, &folder.client(&[&TLS13], false));
    assert!(distrusting.pump(&mut bench, 4096).is_err());
    std::fs::copy(folder.path("new-ca.pem"), folder.path("ca.pem")).unwrap();
    let mut new = Peer::connect(&mut bench, 0, &folder.client(&[&TLS13], false));
    assert_eq!(new.call(&mut bench, "PING\r\n"), "+PONG\r\n");
}

#[test]
fn a_key_may_have_a_pass_phrase() {
    let folder = Folder::new();
    let pem = std::fs::read(folder.path("server.key")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let encrypted = PrivateKeyInfo::try_from(key.secret_der())
        .unwrap()
        .encrypt_with_params(
            Parameters::pbkdf2_sha256_aes256cbc(2048, &[1; 16], &[2; 16]).unwrap(),
            "open sesame",
        )
        .unwrap();
    let encrypted = encrypted
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .unwrap();
    std::fs::write(folder.path("locked.key"), encrypted.as_bytes()).unwrap();
    let mut bench = Bench::with(1, |config| folder.serve(config));
    let admin = bench.connect(0);
    let locked = format!("CONFIG SET tls-key-file {}", folder.path("locked.key"));
    for (pass, expected) in [
        ("", "gives none"),
        (" tls-key-file-pass wrong", "is tls-key-file-pass right?"),
    ] {
        let reply = bench.call(admin, &format!("{locked}{pass}"));
        assert!(reply.starts_with("-ERR CONFIG SET failed"), "{reply}");
        assert!(reply.contains(expected), "{reply}");
    }
    bench.send(
        admin,
        format!("{locked} tls-key-file-pass \"open sesame\"\r\n").as_bytes(),
    );
    assert_eq!(bench.received(admin), b"+OK\r\n");
    let mut peer = Peer::connect(&mut bench, 0, &folder.client(&[&TLS13], false));
    assert_eq!(peer.call(&mut bench, "PING\r\n"), "+PONG\r\n");
}

#[test]
fn in_a_cluster_who_speaks_tls_is_told_ports_that_do() {
    let folder = Folder::new();
    let mut bench = Bench::with(2, |config| {
        folder.serve(config);
        config.cluster_enabled = true;
        config.tls_port = 7000;
        config.core_tls_port_base = 7100;
    });
    let plain = bench.connect(0);
    let reply = bench.call(plain, "CLUSTER SLOTS");
    assert!(reply.contains("\r\n:6381\r\n") && !reply.contains("7101"));
    let mut peer = Peer::connect(&mut bench, 0, &folder.client(&[&TLS13], false));
    let reply = peer.call(&mut bench, "CLUSTER SLOTS\r\n");
    assert!(
        reply.contains("\r\n:7100\r\n") && reply.contains("\r\n:7101\r\n"),
        "{reply}"
    );
    let reply = peer.call(&mut bench, "CLUSTER NODES\r\n");
    assert!(reply.contains(":7101@0 master"), "{reply}");
    let reply = peer.call(&mut bench, "CLUSTER SHARDS\r\n");
    let both = "$4\r\nport\r\n:6381\r\n$8\r\ntls-port\r\n:7101\r\n";
    assert!(reply.contains(both), "{reply}");
    // By its own port a core speaks for itself.
    let name = "localhost".try_into().unwrap();
    let tls = ClientConnection::new(folder.client(&[&TLS13], false), name).unwrap();
    let client = bench.connect_own_tls(1);
    let mut own = Peer { tls, client };
    let reply = own.call(&mut bench, "CLUSTER NODES\r\n");
    assert!(reply.contains(":7101@0 myself,master"), "{reply}");
}
