//! Certificates for tests of programs that speak TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

/// Makes an authority and writes its certificate as `AUTHORITY.pem`, and for each name one that it has signed, `NAME.pem` with
/// `NAME.key`. They are of a host that nobody reaches: servers of this kind, and Redis, look at the authority alone.
pub(crate) fn write(folder: &Path, authority: &str, names: &[&str]) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&authority_key).unwrap();
    write(&format!("{authority}.pem"), &certificate.pem());
    for name in names {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["nowhere.example".to_owned()]).unwrap();
        // (OpenSSL takes one that has the authority's own name for self-signed.)
        params
            .distinguished_name
            .push(DnType::CommonName, (*name).to_owned());
        let signed = params
            .signed_by(&key, &certificate, &authority_key)
            .unwrap();
        write(&format!("{name}.pem"), &signed.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
}
