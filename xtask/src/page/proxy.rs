//! Serves an agent below a path, as the API server's proxy of pods and many an ingress do: the
//! page must ask for nothing outside of it.

use anyhow::{Context, Result};
use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    thread,
};

/// As `kubectl proxy` has it.
const BELOW: &str = "/api/v1/namespaces/herder-system/pods/herder-agent-x:9469/proxy/";

/// Where an agent of this machine is served below a path.
pub fn serve(agent: u16) -> Result<String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that goes away is no failure.
            thread::spawn(move || drop(forward(client, agent)));
        }
    });
    Ok(format!("http://127.0.0.1:{port}{BELOW}"))
}

/// Hands one request on; the answer ends with the connection.
fn forward(mut client: TcpStream, agent: u16) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let Some((method, path)) = first.split_once(BELOW) else {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
    };
    let mut head = format!("{method}/{path}\r\nConnection: close\r\n");
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head.push_str(&line);
            head.push_str("\r\n");
        }
    }
    let mut agent = TcpStream::connect(("127.0.0.1", agent))?;
    agent.write_all(format!("{head}\r\n").as_bytes())?;
    io::copy(&mut agent, &mut client).map(drop)
}
