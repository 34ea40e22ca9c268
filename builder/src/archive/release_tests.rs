use super::*;
use crate::archive::testing::{key_for, now, release, sign};
use crate::report::render;
use sequoia_openpgp::cert::CertRevocationBuilder;
use sequoia_openpgp::types::ReasonForRevocation;

const URL: &str = "http://mirror.example/dists/trixie/InRelease";

fn keyring(cert: &Cert) -> Keyring {
    Keyring::of(vec![cert.clone().strip_secret_key_material()], "test.asc")
}

fn verify(bytes: &[u8], cert: &Cert) -> Result<VerifiedRelease> {
    VerifiedRelease::verify(bytes, &keyring(cert), &Expected { url: URL, suite: "trixie", now: now() })
}

/// The whole message, key ids and dates left to the caller.
fn refusal(bytes: &[u8], cert: &Cert) -> String {
    render(&verify(bytes, cert).unwrap_err())
}

#[test]
fn a_release_signed_by_a_key_of_the_archive_is_read() {
    let key = key_for(3650);
    let signed = sign(&release("trixie", "Acquire-By-Hash: yes\n", &[("main/binary-amd64/Packages.xz", b"x")]), &key);
    let release = verify(&signed, &key).unwrap();
    assert_eq!(release.date().to_string(), "2026-09-12T07:55:41Z");
    assert_eq!(release.sha256(), Hash::of(&signed));
    assert_eq!(release.file("main/binary-amd64/Packages.xz"), Some(Listed { sha256: Hash::of("x"), size: 1 }));
    assert!(release.by_hash() && release.has_index_for_all() && release.priority() == 500);
}

#[test]
fn backports_have_a_lower_priority() {
    let key = key_for(3650);
    let signed = sign(&release("trixie", "NotAutomatic: yes\nButAutomaticUpgrades: yes\n", &[]), &key);
    assert_eq!(verify(&signed, &key).unwrap().priority(), 100);
    let signed = sign(&release("trixie", "NotAutomatic: yes\n", &[]), &key);
    assert_eq!(verify(&signed, &key).unwrap().priority(), 1);
}

#[test]
fn a_signature_by_an_unknown_key_is_refused_and_the_key_named() {
    let (known, unknown) = (key_for(3650), key_for(3650));
    let policy = StandardPolicy::new();
    let subkey = unknown.keys().with_policy(&policy, None).for_signing().next().unwrap().key().fingerprint();
    let text = refusal(&sign(&release("trixie", "", &[]), &unknown), &known);
    assert!(text.starts_with(&format!("error: {URL}: is not signed by a key that the profile accepts\n")), "{text}");
    assert!(text.contains(&format!("signed by the unknown key {subkey}")), "{text}");
}

#[test]
fn a_changed_text_is_refused() {
    let key = key_for(3650);
    let signed = String::from_utf8(sign(&release("trixie", "", &[]), &key)).unwrap();
    let text = refusal(signed.replace("Origin: Debian", "Origin: Debiam").as_bytes(), &key);
    assert!(text.contains("does not fit the text"), "{text}");
}

#[test]
fn a_key_that_has_expired_since_is_refused() {
    let key = key_for(256);
    let signed = sign(&release("trixie", "", &[]), &key);
    let text = refusal(&signed, &key);
    assert!(text.contains("cannot be used now: The primary key is not live: Expired on 2026-09-14"), "{text}");
}

#[test]
fn a_revoked_key_is_refused() {
    let key = key_for(3650);
    let signed = sign(&release("trixie", "", &[]), &key);
    let mut signer = key.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation =
        CertRevocationBuilder::new().set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"stolen").unwrap();
    let revoked = key.clone().insert_packets(revocation.build(&mut signer, &key, None).unwrap()).unwrap().0;
    assert!(verify(&signed, &key).is_ok());
    assert!(refusal(&signed, &revoked).contains("revoked"), "{}", refusal(&signed, &revoked));
}

#[test]
fn text_outside_of_the_signature_is_refused() {
    let key = key_for(3650);
    let signed = sign(&release("trixie", "", &[]), &key);
    let around = |before: &str, after: &str| refusal(&[before.as_bytes(), &signed, after.as_bytes()].concat(), &key);
    assert!(around("Suite: evil\n", "").contains("it is not one clear-signed message"));
    assert!(around("", "\nSuite: evil\n").contains("it is not one clear-signed message"));
    assert!(around("", std::str::from_utf8(&signed).unwrap()).contains("its clear-signed framing is damaged"));
    assert!(around("\n", "").contains("it is not one clear-signed message"));
    assert!(refusal(&signed[..signed.len() / 2], &key).contains("it is cut short"));
    assert!(refusal(b"<html>Please log in</html>", &key).contains("it is not one clear-signed message"));
}

#[test]
fn an_expired_release_is_refused_with_its_date() {
    let key = key_for(3650);
    let signed = sign(&release("trixie", "Valid-Until: Mon, 14 Sep 2026 07:55:41 UTC\n", &[]), &key);
    insta::assert_snapshot!(refusal(&signed, &key), @r"
    error: http://mirror.example/dists/trixie/InRelease: expired on 2026-09-14T07:55:41Z (the clock here says 2026-09-15T12:00:00Z)

    hint: the mirror is stale or replays old indices: choose another `mirror` in the profile, or set this machine's clock
    ");
}

#[test]
fn a_release_from_the_future_is_refused() {
    let key = key_for(3650);
    let signed = sign(&release("trixie", "", &[]).replace("Sat, 12 Sep", "Sat, 19 Sep"), &key);
    assert!(refusal(&signed, &key).contains("in the future"));
}

#[test]
fn a_release_of_another_suite_is_refused() {
    let key = key_for(3650);
    let signed = sign(&release("bookworm", "", &[]), &key);
    insta::assert_snapshot!(refusal(&signed, &key), @r"
    error: http://mirror.example/dists/trixie/InRelease: is about the suite `bookworm` (codename `bookworm`), not `trixie`

    hint: name the suite as its archive does; if it does, this mirror is misconfigured or hostile
    ");
}

#[test]
fn the_shipped_keys_are_those_that_debian_published() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/archives");
    let names = ["automatic", "security-automatic", "stable"].map(|name| format!("debian-archive-trixie-{name}.asc"));
    let keyring = Keyring::open(&folder, &names).unwrap();
    let fingerprints: Vec<String> = keyring.certs.iter().map(|cert| cert.fingerprint().to_string()).collect();
    // https://ftp-master.debian.org/keys.html
    assert_eq!(
        fingerprints,
        [
            "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
            "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
            "41587F7DB8C774BCCF131416762F67A0B2C39DE4"
        ]
    );
}

#[test]
fn a_missing_key_file_is_named() {
    let error = Keyring::open(Path::new("/nowhere"), &["a.asc".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/a.asc: not a readable OpenPGP key file");
}

proptest::proptest! {
    #[test]
    fn any_field_text_is_read_or_refused_and_never_panics(text in "(SHA256:|Date:|X)?:?( [0-9a-f]{0,64})?[ a-z0-9\n]{0,30}") {
        let _ = read_fields(&text);
    }
}
