//! `k6/crypto/x509`: what a certificate says.

use std::net::IpAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rquickjs::{
    Ctx, Function, Object, Result as JsResult, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
};
use rsa::pkcs1::RsaPublicKeyRef;
use sha1::{Digest, Sha1};
use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::{
        Decode, Tag, Tagged,
        asn1::{Any, ObjectIdentifier, Uint, UintRef},
    },
    name::Name,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

use super::bytes;
use crate::{binary, error, modules::export_all};

const NAMES: &[&str] = &["getAltNames", "getIssuer", "getSubject", "parse"];

/// The module `k6/crypto/x509`.
pub(crate) struct X509;

impl ModuleDef for X509 {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let alt_names = |ctx: Ctx<'js>, pem: Opt<Value<'js>>| {
            let certificate = read(&ctx, pem.0)?;
            certificate.alt_names().map_err(|text| throw(&ctx, &text))
        };
        let alt_names = Function::new(ctx.clone(), alt_names)?;
        module.set("getAltNames", alt_names.with_name("getAltNames")?)?;
        let issuer = |ctx: Ctx<'js>, pem: Opt<Value<'js>>| {
            issuer(&ctx, read(&ctx, pem.0)?.inner.tbs_certificate().issuer())
        };
        let issuer = Function::new(ctx.clone(), issuer)?;
        module.set("getIssuer", issuer.with_name("getIssuer")?)?;
        let subject = |ctx: Ctx<'js>, pem: Opt<Value<'js>>| {
            subject(&ctx, read(&ctx, pem.0)?.inner.tbs_certificate().subject())
        };
        let subject = Function::new(ctx.clone(), subject)?;
        module.set("getSubject", subject.with_name("getSubject")?)?;
        let parse = |ctx: Ctx<'js>, pem: Opt<Value<'js>>| {
            let certificate = read(&ctx, pem.0)?;
            parse(&ctx, &certificate)
        };
        module.set(
            "parse",
            Function::new(ctx.clone(), parse)?.with_name("parse")?,
        )?;
        export_all(exports, &module, NAMES)
    }
}

const MALFORMED: &str = "failed to parse certificate: x509: malformed certificate";

fn throw(ctx: &Ctx<'_>, text: &str) -> rquickjs::Error {
    error::throw(ctx, text)
}

fn read<'js>(ctx: &Ctx<'js>, pem: Option<Value<'js>>) -> JsResult<Certificate> {
    let pem = bytes(ctx, pem.as_ref())?;
    Certificate::from_pem(&pem).map_err(|text| throw(ctx, text))
}

/// A certificate and its encoding.
struct Certificate {
    inner: CertificateInner<Raw>,
    der: Vec<u8>,
}

impl Certificate {
    fn from_pem(pem: &[u8]) -> Result<Self, &'static str> {
        let pem = String::from_utf8_lossy(pem);
        let der = first_block(&pem).ok_or("failed to decode certificate PEM file")?;
        let inner = CertificateInner::from_der(&der).map_err(|_| MALFORMED)?;
        Ok(Self { inner, der })
    }

    /// The alternative names of the subject: of the DNS, then addresses of mail, then of hosts,
    /// then URIs.
    fn alt_names(&self) -> Result<Vec<String>, String> {
        const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
        let extensions = self.inner.tbs_certificate().extensions();
        let found = extensions
            .into_iter()
            .flatten()
            .find(|extension| extension.extn_id == SUBJECT_ALT_NAME);
        let Some(found) = found else {
            return Ok(Vec::new());
        };
        let entries = Vec::<Any>::from_der(found.extn_value.as_bytes());
        let entries = entries.map_err(|_| MALFORMED.to_owned())?;
        let mut sorted: [Vec<String>; 4] = Default::default();
        for entry in entries {
            let Tag::ContextSpecific { number, .. } = entry.tag() else {
                continue;
            };
            let text = || String::from_utf8_lossy(entry.value()).into_owned();
            match number.value() {
                2 => sorted[0].push(text()),
                1 => sorted[1].push(text()),
                7 => sorted[2].push(address(entry.value())?),
                6 => sorted[3].push(text()),
                _ => {}
            }
        }
        Ok(sorted.concat())
    }
}

fn address(bytes: &[u8]) -> Result<String, String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(four).to_string());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(sixteen) => Ok(IpAddr::from(sixteen).to_string()),
        Err(_) => Err(format!(
            "failed to parse certificate: x509: cannot parse IP address of length {}",
            bytes.len()
        )),
    }
}

/// The content of the first block of a PEM file that has one. Text around it, headers and the
/// length of lines do not matter, as in Go.
fn first_block(pem: &str) -> Option<Vec<u8>> {
    let mut rest = pem;
    loop {
        let (_, from_label) = rest.split_once("-----BEGIN ")?;
        let (label, body) = from_label.split_once("-----")?;
        rest = body;
        let Some((body, _)) = body.split_once(&format!("-----END {label}-----")) else {
            continue;
        };
        let lines = body.lines().filter(|line| !line.contains(": "));
        let text: String = lines
            .flat_map(|line| line.chars().filter(|c| !c.is_ascii_whitespace()))
            .collect();
        if let Ok(der) = BASE64_STANDARD.decode(text) {
            return Some(der);
        }
    }
}

fn parse<'js>(ctx: &Ctx<'js>, certificate: &Certificate) -> JsResult<Object<'js>> {
    let content = certificate.inner.tbs_certificate();
    let object = Object::new(ctx.clone())?;
    object.set("subject", subject(ctx, content.subject())?)?;
    object.set("issuer", issuer(ctx, content.issuer())?)?;
    let validity = content.validity();
    object.set("notBefore", validity.not_before.to_date_time().to_string())?;
    object.set("notAfter", validity.not_after.to_date_time().to_string())?;
    let names = certificate.alt_names().map_err(|text| throw(ctx, &text))?;
    object.set("altNames", names)?;
    let algorithm = signature_algorithm(certificate.inner.signature_algorithm());
    object.set("signatureAlgorithm", algorithm)?;
    object.set("fingerPrint", Sha1::digest(&certificate.der).to_vec())?;
    object.set(
        "publicKey",
        public_key(ctx, content.subject_public_key_info())?,
    )?;
    Ok(object)
}

// === Names ===

/// The attributes of a name: object identifier and text.
fn attributes(name: &Name) -> Vec<(String, String)> {
    name.iter()
        .map(|attribute| (attribute.oid.to_string(), text(&attribute.value)))
        .collect()
}

fn text(value: &Any) -> String {
    let bytes = value.value();
    if value.tag() == Tag::BmpString {
        let units = bytes.as_chunks::<2>().0.iter();
        let units: Vec<u16> = units.map(|unit| u16::from_be_bytes(*unit)).collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(bytes).into_owned()
}

/// The members that subjects and issuers share, in order.
const COMMON: &[(&str, &str)] = &[
    ("commonName", "2.5.4.3"),
    ("country", "2.5.4.6"),
    ("stateOrProvinceName", "2.5.4.8"),
    ("localityName", "2.5.4.7"),
    ("organizationName", "2.5.4.10"),
];

/// Those that only subjects show.
const OF_SUBJECTS: &[(&str, &str)] = &[("postalCode", "2.5.4.17"), ("streetAddress", "2.5.4.9")];

fn subject<'js>(ctx: &Ctx<'js>, name: &Name) -> JsResult<Object<'js>> {
    let attributes = attributes(name);
    let object = Object::new(ctx.clone())?;
    set_first(&object, COMMON, &attributes)?;
    set_first(&object, OF_SUBJECTS, &attributes)?;
    let units = attributes.iter().filter(|(oid, _)| oid == "2.5.4.11");
    let units: Vec<&str> = units.map(|(_, value)| value.as_str()).collect();
    object.set("organizationalUnitName", units)?;
    object.set("names", names(ctx, &attributes)?)?;
    Ok(object)
}

fn issuer<'js>(ctx: &Ctx<'js>, name: &Name) -> JsResult<Object<'js>> {
    let attributes = attributes(name);
    let object = Object::new(ctx.clone())?;
    set_first(&object, COMMON, &attributes)?;
    object.set("names", names(ctx, &attributes)?)?;
    Ok(object)
}

/// Sets each member to the first attribute of its kind, or to nothing.
fn set_first(
    object: &Object<'_>,
    members: &[(&str, &str)],
    attributes: &[(String, String)],
) -> JsResult<()> {
    for (member, wanted) in members {
        let found = attributes.iter().find(|(oid, _)| oid == wanted);
        object.set(*member, found.map_or("", |(_, value)| value.as_str()))?;
    }
    Ok(())
}

fn names<'js>(ctx: &Ctx<'js>, attributes: &[(String, String)]) -> JsResult<Vec<Object<'js>>> {
    let shown = attributes.iter().map(|(oid, value)| {
        let name = Object::new(ctx.clone())?;
        name.set("type", oid.as_str())?;
        name.set("value", value.as_str())?;
        Ok(name)
    });
    shown.collect()
}

// === Algorithms and keys ===

/// The name that Go gives an algorithm.
fn signature_algorithm(algorithm: &AlgorithmIdentifierOwned) -> &'static str {
    match algorithm.oid.to_string().as_str() {
        "1.2.840.113549.1.1.2" => "MD2-RSA",
        "1.2.840.113549.1.1.4" => "MD5-RSA",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "SHA1-RSA",
        "1.2.840.113549.1.1.11" => "SHA256-RSA",
        "1.2.840.113549.1.1.12" => "SHA384-RSA",
        "1.2.840.113549.1.1.13" => "SHA512-RSA",
        "1.2.840.113549.1.1.10" => {
            // The hash is the first parameter, tagged 0.
            let parameters = algorithm.parameters.as_ref();
            let parameters = parameters.and_then(|all| all.decode_as::<Vec<Any>>().ok());
            let first = parameters.unwrap_or_default().into_iter().next();
            let hash = first.and_then(|hash| {
                let hash = AlgorithmIdentifierOwned::from_der(hash.value()).ok()?;
                Some(hash.oid.to_string())
            });
            match hash.as_deref() {
                Some("2.16.840.1.101.3.4.2.1") => "SHA256-RSAPSS",
                Some("2.16.840.1.101.3.4.2.2") => "SHA384-RSAPSS",
                Some("2.16.840.1.101.3.4.2.3") => "SHA512-RSAPSS",
                _ => "UnknownSignatureAlgorithm",
            }
        }
        "1.2.840.10040.4.3" => "DSA-SHA1",
        "2.16.840.1.101.3.4.3.2" => "DSA-SHA256",
        "1.2.840.10045.4.1" => "ECDSA-SHA1",
        "1.2.840.10045.4.3.2" => "ECDSA-SHA256",
        "1.2.840.10045.4.3.3" => "ECDSA-SHA384",
        "1.2.840.10045.4.3.4" => "ECDSA-SHA512",
        "1.3.101.112" => "Ed25519",
        _ => "UnknownSignatureAlgorithm",
    }
}

fn public_key<'js>(ctx: &Ctx<'js>, info: &SubjectPublicKeyInfoOwned) -> JsResult<Object<'js>> {
    let malformed = || throw(ctx, MALFORMED);
    let key = Object::new(ctx.clone())?;
    let bits = info.subject_public_key.as_bytes().ok_or_else(malformed)?;
    let parameters = info.algorithm.parameters.as_ref();
    let algorithm = match info.algorithm.oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" => {
            let found = RsaPublicKeyRef::from_der(bits).map_err(|_| malformed())?;
            key.set("n", big_int(ctx, found.modulus.as_bytes())?)?;
            let exponent = found.public_exponent.as_bytes();
            let exponent = exponent
                .iter()
                .fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte));
            key.set("e", exponent)?;
            "RSA"
        }
        "1.2.840.10045.2.1" => {
            let curve = parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
            let curve = match curve.map(|curve| curve.to_string()).as_deref() {
                Some("1.3.132.0.33") => "P-224",
                Some("1.2.840.10045.3.1.7") => "P-256",
                Some("1.3.132.0.34") => "P-384",
                Some("1.3.132.0.35") => "P-521",
                _ => {
                    let text = "failed to parse certificate: x509: unsupported elliptic curve";
                    return Err(throw(ctx, text));
                }
            };
            let [4, point @ ..] = bits else {
                return Err(malformed());
            };
            let (x, y) = point.split_at(point.len() / 2);
            if x.len() != y.len() {
                return Err(malformed());
            }
            key.set("curve", curve)?;
            key.set("x", big_int(ctx, x)?)?;
            key.set("y", big_int(ctx, y)?)?;
            "ECDSA"
        }
        "1.2.840.10040.4.1" => {
            let group = parameters.and_then(|group| group.decode_as::<Vec<Uint>>().ok());
            let [p, q, g] = group.as_deref().unwrap_or_default() else {
                return Err(malformed());
            };
            let y = UintRef::from_der(bits).map_err(|_| malformed())?;
            let shown = Object::new(ctx.clone())?;
            for (name, number) in [("p", p), ("q", q), ("g", g)] {
                shown.set(name, big_int(ctx, number.as_bytes())?)?;
            }
            key.set("parameters", shown)?;
            key.set("y", big_int(ctx, y.as_bytes())?)?;
            "DSA"
        }
        _ => return Err(throw(ctx, "unsupported public key algorithm")),
    };
    let object = Object::new(ctx.clone())?;
    object.set("algorithm", algorithm)?;
    object.set("key", key)?;
    Ok(object)
}

/// A number of any length, as a `BigInt`.
fn big_int<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> JsResult<Value<'js>> {
    ctx.eval(format!("0x0{}n", binary::hex(bytes)))
}

#[cfg(test)]
mod tests {
    use super::{address, first_block};
    use crate::harness::run_with_files;

    const FILES: [(&str, &str); 5] = [
        ("file:///dir/ec.pem", include_str!("certificates/ec.pem")),
        ("file:///dir/rsa.pem", include_str!("certificates/rsa.pem")),
        ("file:///dir/pss.pem", include_str!("certificates/pss.pem")),
        ("file:///dir/dsa.pem", include_str!("certificates/dsa.pem")),
        (
            "file:///dir/ed25519.pem",
            include_str!("certificates/ed25519.pem"),
        ),
    ];

    fn script(body: &str) -> Vec<String> {
        let source = format!(
            "import x509, {{ parse, getAltNames, getIssuer, getSubject }} from 'k6/crypto/x509';
             const [ec, rsa, pss, dsa, ed] = ['ec', 'rsa', 'pss', 'dsa', 'ed25519'].map((n) => open(`./${{n}}.pem`));
             export default function () {{ {body} }}"
        );
        run_with_files(&source, &FILES, 1)
    }

    #[test]
    fn certificates_say_who_they_are_for() {
        let lines = script(
            "const s = getSubject(ec);
             console.log(s.commonName, s.country, s.stateOrProvinceName, s.localityName, s.organizationName, s.organizationalUnitName, s.streetAddress, s.postalCode);
             console.log(s.names.map((n) => n.type + '=' + n.value).join(' '));
             console.log(JSON.stringify(getIssuer(rsa)), JSON.stringify(getSubject(rsa)));
             console.log(getAltNames(ec).join(' '), getAltNames(rsa));",
        );
        assert_eq!(
            lines,
            [
                "ec.test ES Sevilla Dos Hermanas Añil [ \"First\", \"Second\" ] Calle 1 41700",
                "2.5.4.6=ES 2.5.4.8=Sevilla 2.5.4.7=Dos Hermanas 2.5.4.10=Añil 2.5.4.11=First 2.5.4.11=Second 2.5.4.3=ec.test 2.5.4.9=Calle 1 2.5.4.17=41700 2.5.4.5=7",
                "{\"commonName\":\"rsa.test\",\"country\":\"\",\"stateOrProvinceName\":\"\",\"localityName\":\"\",\"organizationName\":\"\",\"names\":[{\"type\":\"2.5.4.3\",\"value\":\"rsa.test\"}]} {\"commonName\":\"rsa.test\",\"country\":\"\",\"stateOrProvinceName\":\"\",\"localityName\":\"\",\"organizationName\":\"\",\"postalCode\":\"\",\"streetAddress\":\"\",\"organizationalUnitName\":[],\"names\":[{\"type\":\"2.5.4.3\",\"value\":\"rsa.test\"}]}",
                "ec.test *.ec.test a@ec.test ::1 10.0.0.1 https://ec.test/x []",
            ]
        );
    }

    /// The figures are those that openssl shows.
    #[test]
    fn certificates_say_what_they_hold() {
        let lines = script(
            "const hex = (n) => n.toString(16).slice(0, 12);
             for (const pem of [ec, rsa, pss, dsa]) {
               const { publicKey: { algorithm, key }, ...c } = x509.parse(pem);
               console.log(c.notBefore, c.notAfter, c.signatureAlgorithm, c.fingerPrint.slice(0, 3), c.fingerPrint.length, Array.isArray(c.fingerPrint), algorithm);
               console.log(Object.keys(key).join(), key.e, key.curve, hex(key.n || key.x || key.y), typeof (key.n || key.y));
             }
             try { parse(ed) } catch (e) { console.log(String(e)) }
             console.log(getSubject(ed).commonName);",
        );
        assert_eq!(
            lines,
            [
                "2026-11-24T13:12:05Z 2056-11-16T13:12:05Z ECDSA-SHA384 [ 30, 133, 155 ] 20 true ECDSA",
                "curve,x,y undefined P-384 1581b324db1f bigint",
                "2026-11-24T13:12:06Z 2056-11-16T13:12:06Z SHA256-RSA [ 186, 148, 106 ] 20 true RSA",
                "n,e 65537 undefined b7b33ca04ebc bigint",
                "2026-11-24T13:12:07Z 2056-11-16T13:12:07Z SHA384-RSAPSS [ 239, 141, 253 ] 20 true RSA",
                lines[5].as_str(),
                "2026-11-24T13:12:07Z 2056-11-16T13:12:07Z DSA-SHA256 [ 98, 221, 138 ] 20 true DSA",
                "parameters,y undefined undefined 989d4ac4cd8f bigint",
                "GoError: unsupported public key algorithm",
                "ed.test",
            ]
        );
        assert!(lines[5].starts_with("n,e 65537"), "{lines:?}");
    }

    #[test]
    fn what_is_no_certificate_is_said_so() {
        let lines = script(
            "for (const bad of ['', 'text', rsa.slice(0, 300), rsa.replace('MII', 'AAA'), rsa.replace(/[A-Za-z]/, '!'), '-----BEGIN X-----\\n-----END X-----', 5])
               try { parse(bad); console.log('parsed') } catch (e) { console.log(String(e)) }
             const bytes = Uint8Array.from('text before\\r\\n' + rsa.replaceAll('\\n', '\\r\\n') + ec, (c) => c.charCodeAt(0));
             console.log(getSubject(bytes).commonName, getSubject(bytes.buffer).commonName);",
        );
        let no_pem = "GoError: failed to decode certificate PEM file";
        let malformed = "GoError: failed to parse certificate: x509: malformed certificate";
        assert_eq!(
            lines,
            [
                no_pem,
                no_pem,
                no_pem,
                malformed,
                no_pem,
                malformed,
                "GoError: invalid type int64, expected string, []byte or ArrayBuffer",
                "rsa.test rsa.test",
            ]
        );
    }

    #[test]
    fn blocks_are_found_between_other_text() {
        let pem = "Bag: 1\n-----BEGIN A-----\n!\n-----END A-----\n-----BEGIN B-----\nProc-Type: 4\n\nAQ\nID\n-----END B-----\n";
        assert_eq!(first_block(pem).unwrap(), [1, 2, 3]);
        assert_eq!(
            first_block("-----BEGIN A-----\nAQID\n-----END B-----"),
            None
        );
    }

    #[test]
    fn addresses_have_four_or_sixteen_bytes() {
        assert_eq!(address(&[127, 0, 0, 1]).unwrap(), "127.0.0.1");
        assert!(address(&[1, 2, 3]).unwrap_err().ends_with("length 3"));
    }
}
