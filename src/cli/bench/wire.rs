//! One keep-alive connection that speaks just enough HTTP/1.1: the load shares the cores with what it measures, so
//! every microsecond it does not use is the service's.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer longer than this is not one of ours.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// A connection to one server.
pub struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
}

/// What was answered; the body lies in the connection until the next exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The server ends the connection after this.
    pub closes: bool,
    body: Range<usize>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, inbox: vec![0; 4096] })
    }

    /// Sends a whole request and reads the whole answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.receive().await
    }

    /// Sends a request in two pieces while it listens: a server that refuses early answers before it has read all.
    pub async fn exchange_listening(&mut self, head: &[u8], body: &[u8]) -> io::Result<Answer> {
        let (mut reader, mut writer) = self.stream.split();
        let inbox = &mut self.inbox;
        let sending = async {
            writer.write_all(head).await?;
            writer.write_all(body).await
        };
        let receiving = receive(&mut reader, inbox);
        tokio::pin!(sending, receiving);
        tokio::select! {
            biased;
            answer = &mut receiving => answer,
            // A refusal may lie in the inbox although the rest could not be sent any more.
            _ = &mut sending => receiving.await,
        }
    }

    async fn receive(&mut self) -> io::Result<Answer> {
        receive(&mut self.stream, &mut self.inbox).await
    }

    /// The body of the last answer.
    pub fn body(&self, answer: &Answer) -> &[u8] {
        self.inbox.get(answer.body.clone()).unwrap_or_default()
    }
}

async fn receive(stream: &mut (impl AsyncReadExt + Unpin), inbox: &mut Vec<u8>) -> io::Result<Answer> {
    let mut filled = 0;
    loop {
        if filled == inbox.len() {
            if filled >= LONGEST_ANSWER {
                return Err(strange("an answer without end"));
            }
            inbox.resize(filled * 2, 0);
        }
        let read = stream.read(&mut inbox[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if let Some(answer) = parse(&inbox[..filled])? {
            return Ok(answer);
        }
    }
}

fn strange(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// The answer, once all of it is there.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_end]).map_err(|_| strange("a head that is no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| strange("no HTTP/1.1 status line"))?;
    let (mut length, mut closes) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(strange("an answer in pieces, which this client does not read"));
        }
    }
    let length = length.ok_or_else(|| strange("an answer without a length"))?;
    let (begin, end) = (head_end + 4, head_end + 4 + length);
    Ok((bytes.len() >= end).then_some(Answer { status, closes, body: begin..end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let whole =
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nconnection: close\r\n\r\nlater";
        for short in 0..whole.len() {
            assert_eq!(parse(&whole[..short]).unwrap(), None, "{short}");
        }
        let answer = parse(whole).unwrap().unwrap();
        assert_eq!((answer.status, answer.closes, &whole[answer.body]), (503, true, &b"later"[..]));
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
