//! The program inside the tests' tools tree: does one thing and says how it went.

use std::net::TcpStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["exit", status] => return ExitCode::from(status.parse::<u8>().expect("a status")),
        ["abort"] => std::process::abort(),
        ["write", path, text] => std::fs::write(path, text).map(|()| "written".to_owned()),
        ["read", path] => std::fs::read_to_string(path),
        ["connect", address] => TcpStream::connect(address).map(|_| "connected".to_owned()),
        _ => panic!("probe knows no {args:?}"),
    };
    println!("{}", done.unwrap_or_else(|error| error.kind().to_string()));
    ExitCode::SUCCESS
}
