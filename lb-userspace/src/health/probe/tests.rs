//! Servers on loopback that are there and do not do their work: each is found out, in time, with the reason.

use std::{convert::Infallible, net::Ipv4Addr, time::Duration};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::config::{Command, Dns, Http, Line, Protocol, Rcode, Record, Start, Statuses, Step, Tls, Udp};

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What comes of a check of a port here, which must come by itself.
async fn ask_within(kind: Kind, port: u16, time: Duration) -> Outcome {
    let check =
        Check { kind, via: Via::Backend, every: time, timeout: time, rise: 1, fall: 1, port: None, start: Start::Up };
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let target = Target {
        service: "web".into(),
        vip: Vip { address: localhost, port: Some(port), protocol: Protocol::Tcp },
        backend: localhost,
        forward: Forward::L2,
        mark: None,
        source: None,
    };
    timeout(PATIENCE, probe(&check, &target)).await.expect("a check ends by itself")
}

/// The same, of a server that is to be waited for.
async fn ask(kind: Kind, port: u16) -> Outcome {
    ask_within(kind, port, Duration::from_secs(10)).await
}

/// The same, of one that is not worth the wait.
async fn ask_briefly(kind: Kind, port: u16) -> Outcome {
    ask_within(kind, port, Duration::from_millis(300)).await
}

fn up() -> Outcome {
    Outcome::Up { weight: None }
}

fn down(kind: ReasonKind, text: &str) -> Outcome {
    Outcome::Down(Reason::new(kind, text))
}

/// Does the same with each connection to a port of its own.
async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (u16, JoinHandle<Infallible>)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    (port, serving)
}

/// Says some bytes once something was said, and keeps the connection.
async fn answering(bytes: &'static [u8]) -> (u16, JoinHandle<Infallible>) {
    serve(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await?;
        stream.write_all(bytes).await?;
        std::future::pending().await
    })
    .await
}

/// Says these bytes over and over.
async fn without_end(head: &'static [u8], piece: &'static [u8], pause: Duration) -> (u16, JoinHandle<Infallible>) {
    serve(move |mut stream| async move {
        stream.write_all(head).await?;
        loop {
            stream.write_all(piece).await?;
            sleep(pause).await;
        }
    })
    .await
}

/// A port that nobody listens on.
async fn closed() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

fn http(body: Option<&str>) -> Kind {
    Kind::Http(Http {
        tls: None,
        method: "GET".into(),
        path: "/health".into(),
        host: Some("www.example.net".into()),
        status: Statuses(vec![(200, 399)]),
        body: body.map(str::to_owned),
    })
}

fn tls() -> Tls {
    Tls { verify: false, name: None, ca: None }
}

fn smtp() -> Kind {
    let step = |send: &str, expect: &str| Step { send: send.into(), expect: expect.into() };
    Kind::Line(Line { name: "smtp", steps: vec![step("", "220"), step("NOOP\r\n", "250")] })
}

#[tokio::test]
async fn connections() {
    let (port, _serving) = answering(b"").await;
    assert_eq!(ask(Kind::Tcp, port).await, up());
    assert_eq!(ask(Kind::Tcp, closed().await).await, down(ReasonKind::Refused, "connect: refused"));
}

/// An orderly end would leave a port in TIME_WAIT, here or there.
#[tokio::test]
async fn connections_end_by_a_reset() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (outcome, accepted) = tokio::join!(ask(Kind::Tcp, port), listener.accept());
    assert_eq!(outcome, up());
    let (mut stream, _) = accepted.unwrap();
    let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn answers_over_http() {
    let rows: [(&[u8], Option<&str>, Outcome); 8] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None, up()),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None, up()),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well", Some("is well"), up()),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall i\r\n6\r\ns well\r\n0\r\n\r\n",
            Some("is well"),
            up(),
        ),
        (b"HTTP/1.1 503 Busy\r\n\r\n", None, down(ReasonKind::Status, "http: status 503, wanted 200-399")),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbroken",
            Some("well"),
            down(ReasonKind::Mismatch, "http: body without \"well\" in 6 bytes"),
        ),
        (b"220 ready\r\n", None, down(ReasonKind::Protocol, "http: the answer is not HTTP")),
        (b"\x16\x03\x01\x00", None, down(ReasonKind::Protocol, "http: the answer is not HTTP")),
    ];
    for (bytes, body, outcome) in rows {
        let (port, _serving) = answering(bytes).await;
        assert_eq!(ask(http(body), port).await, outcome, "{}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn a_body_has_an_end_in_some_way() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    let (port, _serving) = without_end(head, &[b'x'; 4096], Duration::ZERO).await;
    let reason = "http: body without \"well\" in 65536 bytes";
    assert_eq!(ask(http(Some("well")), port).await, down(ReasonKind::Mismatch, reason));
    let (port, _serving) = without_end(b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; 4096], Duration::ZERO).await;
    let reason = "http: the head of the answer is too long";
    assert_eq!(ask(http(None), port).await, down(ReasonKind::Protocol, reason));
}

#[tokio::test]
async fn whoever_trickles_is_too_late() {
    let late = |step: &str| down(ReasonKind::Timeout, &format!("{step}: no answer within 300 ms"));
    let pause = Duration::from_millis(20);
    let (port, _serving) = without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"x", pause).await;
    assert_eq!(ask_briefly(http(Some("well")), port).await, late("http"));
    let (port, _serving) = without_end(b"", b"H", pause).await;
    // What is no status line need not be waited for.
    assert!(matches!(ask_briefly(http(None), port).await, Outcome::Down(_)));
    let (port, _serving) = without_end(b"\x16\x03\x03\x40\x00", b"x", pause).await;
    assert_eq!(ask_briefly(Kind::Tls(tls()), port).await, late("tls"));
    let (port, _serving) = without_end(b"", b"2", pause).await;
    assert!(matches!(ask_briefly(smtp(), port).await, Outcome::Down(_)));
}

#[tokio::test]
async fn whoever_says_nothing_is_too_late() {
    let (port, _serving) = answering(b"").await;
    for (kind, step) in [(http(None), "http"), (Kind::Tls(tls()), "tls"), (smtp(), "smtp")] {
        let text = format!("{step}: no answer within 300 ms");
        assert_eq!(ask_briefly(kind, port).await, down(ReasonKind::Timeout, &text));
    }
}

#[tokio::test]
async fn whoever_hangs_up_is_found_out() {
    let (port, _serving) = serve(|mut stream| async move { stream.read(&mut [0; 1024]).await.map(drop) }).await;
    for (kind, step) in [(http(None), "http"), (Kind::Tls(tls()), "tls")] {
        let text = format!("{step}: closed by the other side");
        assert_eq!(ask(kind, port).await, down(ReasonKind::Protocol, &text));
    }
}

#[tokio::test]
async fn what_is_no_tls_is_named() {
    let (port, _serving) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(ask(Kind::Tls(tls()), port).await, down(ReasonKind::Tls, "tls: the answer is not TLS"));
    // A record of handshake with what is no message of it.
    let (port, _serving) = answering(b"\x16\x03\x03\x00\x04\xff\x00\x00\x00").await;
    assert!(matches!(ask(Kind::Tls(tls()), port).await, Outcome::Down(Reason { kind: ReasonKind::Tls, .. })));
    // handshake_failure
    let (port, _serving) = answering(b"\x15\x03\x03\x00\x02\x02\x28").await;
    let reason = "tls: refused by the other side: HandshakeFailure";
    assert_eq!(ask(Kind::Tls(tls()), port).await, down(ReasonKind::Tls, reason));
}

#[tokio::test]
async fn a_file_without_certificates_is_named() {
    let (port, _serving) = answering(b"").await;
    let check =
        |file: &str| Kind::Tls(Tls { verify: true, name: Some("www.example.net".into()), ca: Some(file.into()) });
    let reason = "tls: this host: /dev/null: no certificate in it";
    assert_eq!(ask(check("/dev/null"), port).await, down(ReasonKind::Local, reason));
    let reason = "tls: this host: /nowhere: No such file or directory (os error 2)";
    assert_eq!(ask(check("/nowhere"), port).await, down(ReasonKind::Local, reason));
}

#[tokio::test]
async fn dialogues() {
    let talk = |greeting: &'static [u8], answer: &'static [u8]| {
        serve(move |mut stream| async move {
            stream.write_all(greeting).await?;
            let _ = stream.read(&mut [0; 1024]).await?;
            stream.write_all(answer).await?;
            std::future::pending().await
        })
    };
    let (port, _serving) = talk(b"220-hello\r\n220 ready\r\n", b"250 ok\r\n").await;
    assert_eq!(ask(smtp(), port).await, up());
    let (port, _serving) = talk(b"220 ready\r\n", b"503 no\r\n").await;
    let reason = "smtp: \"503 no\", wanted \"250\"";
    assert_eq!(ask_briefly(smtp(), port).await, down(ReasonKind::Mismatch, reason));
    let (port, _serving) = talk(b"421 busy\r\n", b"").await;
    let reason = "smtp: \"421 busy\", wanted \"220\"";
    assert_eq!(ask_briefly(smtp(), port).await, down(ReasonKind::Mismatch, reason));
    let (port, _serving) = without_end(b"", &[b'\n'; 4096], Duration::ZERO).await;
    let reason = "smtp: over 16384 bytes without what is wanted";
    assert_eq!(ask(smtp(), port).await, down(ReasonKind::Protocol, reason));
}

/// Answers each datagram by what becomes of it.
async fn datagrams(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> (u16, JoinHandle<Infallible>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let mut datagram = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
            if let Some(answer) = answer(&datagram[..length]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    (port, serving)
}

#[tokio::test]
async fn datagrams_come_back_or_not() {
    let udp = |send: &str, expect: &str| Kind::Udp(Udp { send: send.into(), expect: expect.into() });
    let (port, _serving) = datagrams(|datagram| Some(datagram.to_vec())).await;
    assert_eq!(ask(udp("ping", "in"), port).await, up());
    assert_eq!(ask(udp("ping", ""), port).await, up());
    let reason = "udp: \"ping\", wanted \"pong\"";
    assert_eq!(ask_briefly(udp("ping", "pong"), port).await, down(ReasonKind::Mismatch, reason));
    let (port, _serving) = datagrams(|_| None).await;
    assert_eq!(ask_briefly(udp("ping", ""), port).await, up(), "no error came");
    let reason = "udp: no answer within 300 ms";
    assert_eq!(ask_briefly(udp("ping", "pong"), port).await, down(ReasonKind::Timeout, reason));
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    assert_eq!(ask(udp("ping", ""), nobody).await, down(ReasonKind::Refused, "udp: refused"));
}

fn dns(over: Protocol) -> Kind {
    Kind::Dns(Dns {
        name: "www.example.net".into(),
        record: Record::A,
        rcode: Rcode::NoError,
        answer: None,
        over: Some(over),
    })
}

/// A server that answers by what becomes of the question.
async fn dns_server(change: impl Fn(Message) -> Message + Send + 'static) -> (u16, JoinHandle<Infallible>) {
    datagrams(move |datagram| {
        let mut answer = Message::from_vec(datagram).unwrap();
        answer.metadata.message_type = MessageType::Response;
        Some(change(answer).to_vec().unwrap())
    })
    .await
}

#[tokio::test]
async fn answers_over_dns() {
    let (port, _serving) = dns_server(|answer| answer).await;
    assert_eq!(ask(dns(Protocol::Udp), port).await, up());
    let (port, _serving) = dns_server(|mut answer| {
        answer.metadata.response_code = ResponseCode::ServFail;
        answer
    })
    .await;
    let reason = "dns: SERVFAIL, wanted NOERROR";
    assert_eq!(ask(dns(Protocol::Udp), port).await, down(ReasonKind::Dns, reason));
    let (port, _serving) = dns_server(|mut answer| {
        answer.metadata.id ^= 1;
        answer
    })
    .await;
    let reason = "dns: the answer has another id";
    assert_eq!(ask_briefly(dns(Protocol::Udp), port).await, down(ReasonKind::Protocol, reason));
    let (port, _serving) = dns_server(|mut answer| {
        answer.metadata.message_type = MessageType::Query;
        answer
    })
    .await;
    let reason = "dns: a question came back, not an answer";
    assert_eq!(ask_briefly(dns(Protocol::Udp), port).await, down(ReasonKind::Protocol, reason));
    let (port, _serving) = datagrams(|_| Some(b"no".to_vec())).await;
    let reason = "dns: the answer is not DNS";
    assert_eq!(ask_briefly(dns(Protocol::Udp), port).await, down(ReasonKind::Protocol, reason));
    let (port, _serving) = answering(b"\xff\xffno").await;
    let reason = "dns: no answer within 300 ms";
    assert_eq!(ask_briefly(dns(Protocol::Tcp), port).await, down(ReasonKind::Timeout, reason));
}

fn shell(script: &str, dynamic_weight: bool) -> Kind {
    Kind::Command(Command { argv: vec!["/bin/sh".into(), "-c".into(), script.into()], dynamic_weight })
}

#[tokio::test]
async fn commands_are_told_whom_they_are_for() {
    let script =
        r#"[ "$WEIR_SERVICE $WEIR_BACKEND $WEIR_VIP $WEIR_PORT $WEIR_PROTOCOL" = "web 127.0.0.1 127.0.0.1 7 tcp" ]"#;
    assert_eq!(ask(shell(script, false), 7).await, Outcome::Keep);
    assert_eq!(ask(shell("exit 12", true), 7).await, Outcome::Up { weight: Some(10) });
    let nowhere = Kind::Command(Command { argv: vec!["/nowhere".into()], dynamic_weight: false });
    let reason = "command: /nowhere: No such file or directory (os error 2)";
    assert_eq!(ask(nowhere, 7).await, down(ReasonKind::Local, reason));
}

#[tokio::test]
async fn a_command_dies_with_all_that_it_started() {
    let file = std::env::temp_dir().join(format!("weir-probe-{}", std::process::id()));
    let started = |script: &str| shell(&script.replace("FILE", &file.display().to_string()), false);
    let child = || async {
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        std::fs::remove_file(&file).unwrap();
        // It is another's child by then: gone, or dead and not yet taken note of.
        let gone = async {
            loop {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                if stat.is_empty() || stat.contains(") Z ") {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("it is killed too");
    };
    // Hangs, itself and what it started.
    let outcome = ask_within(started("sleep 1000 & echo $! > FILE; wait"), 7, Duration::from_secs(1)).await;
    assert_eq!(outcome, down(ReasonKind::Timeout, "command: no answer within 1 s"));
    child().await;
    // Ends, and leaves something behind.
    assert_eq!(ask(started("sleep 1000 & echo $! > FILE"), 7).await, Outcome::Keep);
    child().await;
}
