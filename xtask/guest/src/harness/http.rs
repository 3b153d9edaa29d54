//! Asks a server of this machine, in the oldest version of HTTP, in which answers
//! end where the connection does.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// The body, if the answer is 200.
pub fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split_whitespace().nth(1) == Some("200")).then(|| body.to_owned())
}

/// The sum of a family's series.
pub fn total(exposition: &str, family: &str) -> u64 {
    let lines = exposition.lines().filter(|line| line.starts_with(family));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The count of a series, by its text before the value.
pub fn metric(exposition: &str, series: &str) -> Option<u64> {
    let found = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found?.split(' ').next()?.parse().ok()
}

/// Status and body of an agent's answer; none while there is no server. In the oldest version
/// of HTTP it ends where the connection does.
pub fn ask(address: &str, path: &str) -> Option<(u16, String)> {
    ask_by(TcpStream::connect(address).ok()?, address, path)
}

/// The same by a connection that is there.
pub fn ask_by(mut stream: TcpStream, address: &str, path: &str) -> Option<(u16, String)> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
