//! What a person is told about a configuration or a command line, by the programs themselves.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SECRET: &str = "hunter2-never-to-be-seen";

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A configuration that has no fault, less the key file.
const GOOD: &str = "\
linxo.api_url = \"https://sandbox-api.oxlin.io/v2.1\"
admin.listen = \"127.0.0.1:1\"
";

/// A folder with a configuration and the files that it names.
struct Written {
    folder: TempDir,
}

impl Written {
    fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bridge.toml"), configuration).unwrap();
        Self { folder }
    }

    fn with_keys(configuration: &str, keys: &str) -> Self {
        let written = Self::new("");
        let path = written.folder.path().join("keys");
        fs::write(&path, keys).unwrap();
        let text = format!("{configuration}\ncredentials.key_file = {path:?}\n");
        fs::write(written.folder.path().join("bridge.toml"), text).unwrap();
        written
    }

    /// Runs the bridge in the folder, with these variables and no others.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linxo-bridge"));
        command.env_clear().envs(variables.iter().copied()).current_dir(self.folder.path());
        Told::by(command.args(arguments))
    }

    fn serve(&self) -> Told {
        self.run(&["--config", "bridge.toml", "serve"], &[])
    }
}

/// What a program said, and how it ended.
struct Told {
    code: i32,
    out: String,
    err: String,
}

impl Told {
    fn by(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    /// The line that begins a fault of this key, number included.
    fn fault(&self, key: &str) -> &str {
        let mut lines = self.err.lines().filter(|line| line.contains(&format!(". {key}: ")));
        let line = lines.next().unwrap_or_else(|| panic!("nothing about {key}:\n{}", self.err));
        assert!(lines.next().is_none(), "{key} is told twice:\n{}", self.err);
        line
    }
}

#[test]
fn five_faults_are_told_together_each_with_its_key_and_what_would_be_right() {
    let told = Written::new(
        "[linxo]\napi_url = \"ftp://linxo\"\n\
         [polling]\nkeepalive = \"4m\"\nactive = 5\n\
         [kafka]\ngroup_protocol = \"modern\"\n\
         [topics]\npartitions = 0\n\
         [credentials]\nkey_file = \"bridge.toml\"\n",
    )
    .serve();
    assert_eq!(told.code, 64, "{}", told.err);
    assert!(told.err.starts_with("5 faults in the configuration:\n"), "{}", told.err);
    for (key, found, wanted) in [
        ("linxo.api_url", "\"ftp://linxo\"", "an http or https URL"),
        ("polling.keepalive", "no such setting", "did you mean polling.keep_alive?"),
        ("polling.active", "is 5", "\"500ms\""),
        ("kafka.group_protocol", "\"modern\"", "or \"consumer\" with Kafka 4"),
        ("topics.partitions", "is 0", "a whole number from 1"),
    ] {
        let fault = told.fault(key);
        assert!(fault.contains(found) && fault.contains(wanted), "{fault}");
    }
    assert_eq!(told.out, "");
}

#[test]
fn settings_that_do_not_go_together_are_told_by_all_their_names() {
    let told = Written::with_keys(
        "linxo.api_url = \"https://sandbox-api.oxlin.io/v2.1\"\n\
         linxo.client_id = \"me\"\npolling.keep_alive = \"15m\"\nadmin.listen = \"0.0.0.0:1\"\n",
        KEY,
    )
    .serve();
    assert_eq!(told.code, 64);
    for keys in [
        "linxo.client_id, linxo.client_secret_file",
        "polling.keep_alive, linxo.request_timeout, linxo.queue_lifetime",
        "admin.token_file, admin.listen",
    ] {
        told.fault(keys);
    }
}

#[test]
fn a_variable_counts_over_the_file_and_is_named_when_it_is_wrong() {
    let written = Written::with_keys(GOOD, KEY);
    let arguments = ["--config", "bridge.toml", "healthcheck"];
    let from_file = written.run(&arguments, &[]);
    assert!(from_file.err.contains("http://127.0.0.1:1/readyz"), "{}", from_file.err);
    assert_eq!(from_file.code, 1, "nobody listens there");
    let over = written.run(&arguments, &[("LINXO_BRIDGE__ADMIN__LISTEN", "127.0.0.1:2")]);
    assert!(over.err.contains("http://127.0.0.1:2/readyz"), "{}", over.err);

    let wrong = written.run(
        &arguments,
        &[("LINXO_BRIDGE__ADMIN__LISTEN", "here"), ("LINXO_BRIDGE__KAFKA__GRUOP", "mine")],
    );
    assert_eq!(wrong.code, 64);
    let fault = wrong.fault("admin.listen");
    assert!(fault.contains("LINXO_BRIDGE__ADMIN__LISTEN"), "{fault}");
    let fault = wrong.fault("kafka.gruop");
    assert!(fault.contains("did you mean kafka.group?"), "{fault}");
    assert!(fault.contains("LINXO_BRIDGE__KAFKA__GRUOP"), "{fault}");
}

#[test]
fn no_fault_shows_a_secret_wherever_it_was_written() {
    let faulty = format!(
        "[linxo]\napi_url = \"ftp://user:{SECRET}@linxo\"\nclient_secret = [\"{SECRET}\"]\n\
         [kafka]\nproperties = \"sasl.password={SECRET}\"\npasword = \"{SECRET}\"\n\
         producer = {{ \"sasl.password\" = [\"{SECRET}\"] }}\n\
         [schema_registry]\nurl = \"registry:{SECRET}@here\"\n\
         [{SECRET}x]\n"
    );
    let told = Written::new(&faulty.replace(&format!("[{SECRET}x]\n"), "")).serve();
    assert_eq!(told.code, 64);
    for key in ["linxo.api_url", "linxo.client_secret", "kafka.properties", "kafka.pasword"] {
        told.fault(key);
    }
    assert!(!told.err.contains(SECRET) && !told.out.contains(SECRET), "{}", told.err);

    let no_toml = format!("[linxo]\nclient_id = \"me\"\nclient_secret = \"{SECRET}\n");
    let told = Written::new(&no_toml).serve();
    assert_eq!(told.code, 64);
    assert!(told.err.contains("line 3 of the file"), "{}", told.err);
    assert!(!told.err.contains(SECRET), "{}", told.err);

    let written = Written::with_keys(GOOD, KEY);
    let told = written.run(
        &["--config", "bridge.toml", "serve"],
        &[
            ("LINXO_BRIDGE__LINXO__CLIENT_SECRET", SECRET),
            ("LINXO_BRIDGE__KAFKA__PROPERTIES", SECRET),
        ],
    );
    assert_eq!(told.code, 64);
    assert!(!told.err.contains(SECRET), "{}", told.err);
}

#[test]
fn a_file_that_is_not_there_is_told_with_the_option_that_names_it() {
    let told = Written::new("").run(&["--config", "missing.toml", "serve"], &[]);
    assert_eq!(told.code, 64);
    let fault = told.fault("missing.toml");
    assert!(fault.contains("--config"), "{fault}");
    assert!(told.err.starts_with("1 fault "), "what the file would say is unknown: {}", told.err);

    let told = Written::new("").run(&["serve"], &[]);
    assert_eq!(told.code, 64);
    told.fault("linxo.api_url");
    told.fault("credentials.key_file");
}

#[test]
fn a_key_file_of_no_use_is_told_by_line_and_never_by_what_stands_there() {
    for (keys, what) in [
        (String::new(), "is empty"),
        ("\n\n".to_owned(), "holds no key"),
        (format!("{KEY}\n{SECRET}\n"), "line 2 of the key file is not base64"),
        (format!("{KEY}\n{}\n", &KEY[..40]), "line 2 of the key file holds 30 bytes"),
    ] {
        let told = Written::with_keys(GOOD, &keys).serve();
        assert_eq!(told.code, 64, "{}", told.err);
        assert!(told.err.contains("credentials.key_file: "), "{}", told.err);
        assert!(told.err.contains(what), "{}", told.err);
        assert!(!told.err.contains(SECRET) && !told.err.contains(&KEY[..40]), "{}", told.err);
    }
    let written = Written::with_keys(GOOD, KEY);
    fs::remove_file(written.folder.path().join("keys")).unwrap();
    let told = written.serve();
    assert_eq!(told.code, 64);
    assert!(told.fault("credentials.key_file").contains("cannot be read"), "{}", told.err);
}

#[test]
fn a_simulator_tells_whether_it_runs_and_takes_its_secret_from_a_file() {
    let simulator = env!("CARGO_BIN_EXE_linxo-simulator");
    let nobody = ["--control-listen", "127.0.0.1:1", "healthcheck"];
    assert_eq!(Told::by(Command::new(simulator).args(nobody)).code, 1);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("client-secret");
    let started = |arguments: &[&str]| {
        let mut command = Command::new(simulator);
        command.args(arguments).arg("--client-secret-file").arg(&secret);
        command
    };
    let told = Told::by(&mut started(&[]));
    assert_eq!(told.code, 1);
    assert!(told.err.contains("client-secret: "), "{}", told.err);

    fs::write(&secret, "from-a-file\n").unwrap();
    assert_eq!(Told::by(&mut started(&["--client-secret", "two"])).code, 2);
    let mut child = started(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |before: &str| {
        let line = lines.next().unwrap().unwrap();
        line.strip_prefix(before).unwrap().to_owned()
    };
    let source = next("listening on ");
    let control = next("control on http://");
    let control = control.strip_suffix("/control").unwrap();
    let asked =
        Told::by(Command::new(simulator).args(["--control-listen", control, "healthcheck"]));
    let token = |secret: &str| {
        let mut stream = TcpStream::connect(source.strip_prefix("http://").unwrap()).unwrap();
        let body = format!(
            "grant_type=client_credentials&client_id=simulated-client&client_secret={secret}"
        );
        write!(
            stream,
            "POST /auth/token HTTP/1.0\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let (right, wrong) = (token("from-a-file"), token("simulated-client-secret"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(asked.code, 0, "{}", asked.err);
    assert!(right.contains(" 200 ") && !wrong.contains(" 200 "), "{right}\n{wrong}");
}

#[test]
fn secrets_are_made_without_a_configuration() {
    let bridge = env!("CARGO_BIN_EXE_linxo-bridge");
    let folder = tempfile::tempdir().unwrap();
    let create = || Told::by(Command::new(bridge).args(["secrets", "create"]).arg(folder.path()));
    let told = create();
    assert_eq!((told.code, &*told.out), (0, "made keys\nmade admin-token\nmade client-secret\n"));
    assert_eq!(create().out, "nothing was missing\n");
    let told = Told::by(Command::new(bridge).args(["secrets", "create", "/nowhere"]));
    assert_eq!(told.code, 1);
    assert!(told.err.contains("/nowhere/keys: "), "{}", told.err);
}

#[test]
fn both_programs_explain_themselves_and_refuse_what_they_do_not_know() {
    let bridge = env!("CARGO_BIN_EXE_linxo-bridge");
    let simulator = env!("CARGO_BIN_EXE_linxo-simulator");
    let version = env!("CARGO_PKG_VERSION");
    for (program, name) in [(bridge, "linxo-bridge"), (simulator, "linxo-simulator")] {
        let told = Told::by(Command::new(program).arg("--version"));
        assert_eq!((told.code, told.out), (0, format!("{name} {version}\n")));
        let help = Told::by(Command::new(program).arg("--help"));
        assert_eq!(help.code, 0);
        assert!(help.out.contains(&format!("Usage: {name}")), "{}", help.out);
        let told = Told::by(Command::new(program).arg("--weather"));
        assert_ne!(told.code, 0);
        assert!(told.err.contains("--weather"), "{}", told.err);
    }
    let help = Told::by(Command::new(bridge).arg("--help")).out;
    for word in ["serve", "check", "topics", "healthcheck", "demo", "--config", "LINXO_BRIDGE__"] {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
    let help = Told::by(Command::new(bridge).args(["topics", "--help"])).out;
    assert!(help.contains("create") && help.contains("describe"), "{help}");
    assert_eq!(Told::by(Command::new(bridge).arg("sing")).code, 64);
}
