//! Servers that speak DynamoDB's protocol on a loopback port: moto and dynalite, which `tests/sdks/install.sh` installs.
//! Neither keeps data across a restart.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// Below the ephemeral ports and those of the Redis servers.
const FIRST_PORT: u16 = 11_000;
const PORTS: u16 = 10_000;
const START: Duration = Duration::from_secs(60);
/// How long a response may take.
const ANSWER: Duration = Duration::from_secs(20);

/// Region in all requests.
const REGION: &str = "us-east-1";

/// The program that is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamoDbKind {
    /// moto, in Python. Has transactions.
    Moto,
    /// dynalite, in JavaScript. Checks requests more strictly, and has no transactions.
    Dynalite,
}

/// A running server; it stops when dropped.
pub struct DynamoDbServer {
    kind: DynamoDbKind,
    child: Child,
    port: u16,
}

impl DynamoDbServer {
    /// Starts a server without tables. Returns `None`, with a note, where it is not installed.
    ///
    /// # Panics
    /// When the server does not start, or in CI when it is not installed.
    #[must_use]
    pub fn start(kind: DynamoDbKind) -> Option<Self> {
        if !kind.program().1.exists() {
            assert!(std::env::var_os("CI").is_none(), "{kind:?} is not installed, run `make setup`");
            eprintln!("skipped: {kind:?} is not installed, run `make setup`");
            return None;
        }
        loop {
            let port = next_port();
            if let Some(child) = launch(kind, port) {
                return Some(Self { kind, child, port });
            }
        }
    }

    /// Returns the endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns environment variables with credentials, which clients need and the server does not check.
    #[must_use]
    pub fn variables() -> [(&'static str, &'static str); 3] {
        [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "canary-of-aws"), ("AWS_REGION", REGION)]
    }

    /// Creates a table with the keys of the SDKs' layout.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn create_table(&self, name: &str) {
        let attribute = |name: &str| json!({"AttributeName": name, "AttributeType": "S"});
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let table = json!({
            "TableName": name, "AttributeDefinitions": [attribute("namespace"), attribute("key")],
            "KeySchema": [key("namespace", "HASH"), key("key", "RANGE")],
            "ProvisionedThroughput": {"ReadCapacityUnits": 1000, "WriteCapacityUnits": 1000},
        });
        self.ask("CreateTable", &table);
        let start = Instant::now();
        while self.ask("DescribeTable", &json!({"TableName": name}))["Table"]["TableStatus"] != "ACTIVE" {
            assert!(start.elapsed() < START, "table {name} is not active");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Deletes everything in a table.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn empty_table(&self, name: &str) {
        for item in self.ask("Scan", &json!({"TableName": name}))["Items"].as_array().into_iter().flatten() {
            let key = json!({"namespace": item["namespace"], "key": item["key"]});
            self.ask("DeleteItem", &json!({"TableName": name, "Key": key}));
        }
    }

    /// Returns the items of a namespace by key.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn items(&self, table: &str, namespace: &str) -> BTreeMap<String, Value> {
        let query = json!({
            "TableName": table, "ConsistentRead": true, "KeyConditionExpression": "#n = :n",
            "ExpressionAttributeNames": {"#n": "namespace"}, "ExpressionAttributeValues": {":n": {"S": namespace}},
        });
        let found = self.ask("Query", &query);
        let items = found["Items"].as_array().cloned().unwrap_or_default();
        items.into_iter().map(|it| (it["key"]["S"].as_str().expect("a key").to_owned(), it)).collect()
    }

    /// Returns the names of all namespaces of a table.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn namespaces(&self, table: &str) -> Vec<String> {
        let found = self.ask("Scan", &json!({"TableName": table}));
        let items = found["Items"].as_array().into_iter().flatten();
        let names: std::collections::BTreeSet<_> =
            items.map(|it| it["namespace"]["S"].as_str().expect("a namespace").to_owned()).collect();
        names.into_iter().collect()
    }

    /// Sends a request and returns its response.
    ///
    /// # Panics
    /// When the server does not answer, or refuses.
    #[expect(clippy::must_use_candidate, reason = "requests that write are sent for their effect")]
    pub fn ask(&self, operation: &str, request: &Value) -> Value {
        let (status, answer) = ask(self.port, operation, request).expect("a response");
        assert_eq!(status, 200, "{operation} {request}: {answer}");
        answer
    }

    /// Ends the process, with all data.
    ///
    /// # Panics
    /// When the process cannot be ended.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process");
        self.child.wait().expect("an end");
    }

    /// Starts the process again at the same port, without data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(self.kind, self.port).expect("the same port");
    }
}

impl Drop for DynamoDbServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl DynamoDbKind {
    /// Returns the interpreter, the file that must exist, and the arguments before the port.
    fn program(self) -> (PathBuf, PathBuf, Vec<&'static str>) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdks");
        match self {
            Self::Moto => {
                let python = folder.join("python/.venv/bin/python");
                let arguments = vec!["-m", "moto.server", "-H", "127.0.0.1", "-p"];
                (python, folder.join("python/.venv/.installed"), arguments)
            }
            Self::Dynalite => {
                let times = ["--createTableMs", "1", "--deleteTableMs", "1", "--updateTableMs", "1"];
                let arguments = ["--host", "127.0.0.1"].into_iter().chain(times).chain(["--port"]).collect();
                ("node".into(), folder.join("node/node_modules/dynalite/cli.js"), arguments)
            }
        }
    }
}

fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(PORTS)).unwrap_or(0);
    FIRST_PORT + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS
}

/// Starts the process; returns `None` when the port is taken.
fn launch(kind: DynamoDbKind, port: u16) -> Option<Child> {
    let (interpreter, file, arguments) = kind.program();
    let mut command = Command::new(interpreter);
    if kind == DynamoDbKind::Dynalite {
        command.arg(file);
    }
    command.args(arguments).arg(port.to_string());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    let start = Instant::now();
    loop {
        if child.try_wait().expect("a child").is_some() {
            return None;
        }
        if matches!(ask(port, "ListTables", &json!({})), Ok((200, _))) {
            return Some(child);
        }
        assert!(start.elapsed() < START, "{kind:?} does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask(port: u16, operation: &str, request: &Value) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let body = request.to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\n\
         X-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=id/20260101/{REGION}/dynamodb/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let text = String::from_utf8(response).map_err(|_| invalid())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(invalid)?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}
