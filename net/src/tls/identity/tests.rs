use super::*;

// Made by OpenSSL: one key for P-256, bare and sealed with the password `sesame`.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBCzCBsgICEjQwCgYIKoZIzj0EAwIwEjEQMA4GA1UEAwwHdGVzdCBjYTAeFw0y
NjExMjQxMzE3MTZaFw0zNjExMjExMzE3MTZaMBExDzANBgNVBAMMBmEudGVzdDBZ
MBMGByqGSM49AgEGCCqGSM49AwEHA0IABPADK3oKRpJmV/pculvKQ50IkC62RSk9
Wp3Z5cT+p1zAhId2G2HroRExZi4zxdsOvvhxD/EmrtoaXXou2kk7sJUwCgYIKoZI
zj0EAwIDSAAwRQIgfjuA8QTOyvW9HXzX/IRQCU2tBuSIVOwr08XDoIr+zMkCIQCl
KM07n334F9UDVGNunTvFPmvswv1QC5raHG4CDqUMfg==
-----END CERTIFICATE-----";
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgySVJJgTcL2uD132R
vXxvlycsWozbSYzIKtpyC62MtAWhRANCAATwAyt6CkaSZlf6XLpbykOdCJAutkUp
PVqd2eXE/qdcwISHdhth66ERMWYuM8XbDr74cQ/xJq7aGl16LtpJO7CV
-----END PRIVATE KEY-----";
const SEALED: [&str; 3] = [
    "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAivhzgme0jSEgICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKtNNKQQhG597AFRdC+vhkIEgZCy
rqFu1/m6mn0oZOAhVJ20eYptUKI4h2Y5Xl1Z0WrsEsW0R5i/nAxIVVowaWgtfZn8
3P+xf/EOtwuBULMZkT7245T8G3X6gVMe74D/JpMuzxf9K8MnuTDPUStHBTBd9U/X
WoNDgLKazH7VYkMsEd7umOeprotKhunEiha7iHcPu5ArpklRBS5TyhjaPzm3kx0=
-----END ENCRYPTED PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,39E0200F12413DEFE950D86454051CBD

085f3ul3xlgBVLvsObY1IEhUXoIz79vQTmAflVM2i9nK8EOyzrCsfG/ItAhbkg3n
h5jJGa/8uOIMVwNfyf8E6pAwfvQzYGgIrU0aD/3Agd7iMWFIVYYpwQGz3Xr9FVcV
WyPOjAQTmvdxa4pjOGwPPzTshD6qanc41tOHiVPk/2Q=
-----END EC PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: DES-EDE3-CBC,481BF4AB63E75C41

QU7NtAaKSVWSvlV53dMVGwYvpxIZIIsYSdesoADySXlyxNmHCrdgGRsFn7oh3g0F
w9L2nX7E3A3HWu19oX72nPuJ9QoX3MbBYWYrK/wNZ4GoOEmsMGEhS0rL7+RafLWe
Q2W8exIKsec2U6L2IP4SXEgSP7pCA1+YzrSYy84lHNg=
-----END EC PRIVATE KEY-----",
];
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUOVaPnYhb1+OcvNIfB/v3S5zFtzAwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHdGVzdCBjYTAeFw0yNjExMjQxMzE3MTVaFw0zNjExMjExMzE3
MTVaMBIxEDAOBgNVBAMMB3Rlc3QgY2EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAS6wDRwmc+MBQh8b/sGdsWjkpRDTxdOak9o/z51Xwvogmm1ch9+5aYjXcbNZqrN
Ff6/JcTGy9YsauJeYMMk6/hGo1MwUTAdBgNVHQ4EFgQUBMockOy9/IRjbJy/8A3l
bO5MTY4wHwYDVR0jBBgwFoAUBMockOy9/IRjbJy/8A3lbO5MTY4wDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAreN4vWpcBplvY5i/FIwmh4B+S4Bb
RkYDsDHJaaKu2FsCIBpPhQ1sxtnzyjmkHFC1tFjyv0zFrg4KN0vDZnhD/ZpO
-----END CERTIFICATE-----";

fn read(key: &str, password: Option<&str>) -> Result<Identity, String> {
    Identity::from_pem(CERTIFICATE, key, password, Vec::new())
}

#[test]
fn keys_are_read_bare_and_sealed() {
    let bare = read(KEY, None).expect("a key");
    assert_eq!(bare.issuers.len(), 1);
    for sealed in SEALED {
        let label = sealed.lines().take(3).collect::<Vec<_>>().join(" ");
        assert!(read(sealed, Some("sesame")).is_ok(), "{label}");
        let wrong = read(sealed, Some("other")).expect_err("a wrong password");
        assert!(wrong.starts_with("tls: "), "{wrong}");
        assert_eq!(
            read(sealed, None).expect_err("no password"),
            "tls: the private key is encrypted, and there is no password"
        );
    }
}

#[test]
fn what_is_wrong_is_said() {
    let error = |certificate: &str, key: &str| {
        Identity::from_pem(certificate, key, None, Vec::new()).expect_err("refused")
    };
    assert_eq!(
        error("", KEY),
        "tls: failed to find any PEM data in certificate input"
    );
    assert_eq!(
        error(CERTIFICATE, ""),
        "tls: failed to find any PEM data in key input"
    );
    assert_eq!(
        error(AUTHORITY, KEY),
        "tls: private key does not match public key"
    );
    let cut = KEY.replace('A', "");
    assert!(error(CERTIFICATE, &cut).starts_with("tls: "));
}

#[test]
fn the_issuer_and_the_domain_decide() {
    let identity = |domains: &[&str]| {
        let domains = domains.iter().map(|d| (*d).to_owned()).collect();
        Identity::from_pem(CERTIFICATE, KEY, None, domains).expect("an identity")
    };
    assert!(identity(&[]).fits("any.test"));
    assert!(identity(&["a.test", "*.b.test"]).fits("x.B.test"));
    assert!(!identity(&["a.test"]).fits("x.a.test"));
    let mine = identity(&[]);
    let ca = issuer(&CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).expect("a certificate"));
    assert_eq!(mine.issuers, [ca.expect("an issuer")]);
    let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
    let other = Identity {
        issuers: vec![vec![0x30, 0]],
        ..identity(&[])
    };
    let chooser = Chooser(vec![other.clone(), mine.clone()]);
    let asked = |authorities: &[&[u8]]| chooser.resolve(authorities, &schemes).expect("one");
    let same = |a: &Arc<CertifiedKey>, b: &Identity| Arc::ptr_eq(a, &b.key);
    assert!(same(&asked(&[&mine.issuers[0]]), &mine));
    assert!(same(&asked(&[]), &other));
    assert!(
        chooser
            .resolve(&[], &[SignatureScheme::RSA_PKCS1_SHA256])
            .is_none()
    );
}
