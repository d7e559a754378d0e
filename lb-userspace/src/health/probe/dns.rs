//! A question to a DNS server, and what its answer must be (RFC 1035, RFC 7766).

use std::io;

use hickory_proto::{
    op::{Message, MessageType, Query},
    rr::{DNSClass, Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use super::{
    Reason, ReasonKind,
    deadline::{Deadline, fault},
    dial::Way,
    tcp,
};
use crate::config::{Dns, Protocol, Rcode};

const STEP: &str = "dns";
/// The largest answer over UDP without extensions is 512 bytes (RFC 1035, 2.3.4); servers that ignore that are forgiven.
const DATAGRAM: usize = 4096;

/// Asks, by the protocol given.
pub async fn probe(way: &Way, dns: &Dns, protocol: Protocol, deadline: Deadline) -> Result<(), Reason> {
    let question = question(dns)?;
    let bytes = question.to_vec().map_err(|error| local(&error))?;
    match protocol {
        Protocol::Udp => over_udp(way, dns, &question, &bytes, deadline).await,
        Protocol::Tcp => over_tcp(way, dns, &question, &bytes, deadline).await,
    }
}

fn local(error: &dyn std::fmt::Display) -> Reason {
    Reason::new(ReasonKind::Local, format!("{STEP}: this host: {error}"))
}

fn question(dns: &Dns) -> Result<Message, Reason> {
    let mut name = Name::from_ascii(&dns.name).map_err(|error| local(&error))?;
    name.set_fqdn(true);
    let record: RecordType = dns.record.to_string().parse().map_err(|error| local(&error))?;
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, record));
    Ok(question)
}

async fn over_udp(way: &Way, dns: &Dns, question: &Message, bytes: &[u8], deadline: Deadline) -> Result<(), Reason> {
    let socket = way.datagrams().map_err(|error| fault(STEP, &error))?;
    socket.send(bytes).await.map_err(|error| fault(STEP, &error))?;
    let mut stranger = None;
    // An answer to another question may be a late one: the right one may yet come.
    match deadline.until(answer(&socket, dns, question, &mut stranger)).await {
        Some(judged) => judged,
        None => Err(stranger.unwrap_or_else(|| deadline.over(STEP))),
    }
}

async fn answer(
    socket: &UdpSocket,
    dns: &Dns,
    question: &Message,
    stranger: &mut Option<Reason>,
) -> Result<(), Reason> {
    let mut datagram = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await.map_err(|error| fault(STEP, &error))?;
        match read(&datagram[..length], question) {
            Ok(answer) => return judge(dns, &answer),
            Err(reason) => *stranger = Some(reason),
        }
    }
}

async fn over_tcp(way: &Way, dns: &Dns, question: &Message, bytes: &[u8], deadline: Deadline) -> Result<(), Reason> {
    let mut stream = tcp::connect(way, deadline).await?;
    let exchange = async {
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let came = deadline.during(STEP, async { exchange.await.map_err(|error: io::Error| fault(STEP, &error)) }).await?;
    judge(dns, &read(&came, question)?)
}

/// The answer in some bytes, if they are one to this question.
fn read(bytes: &[u8], question: &Message) -> Result<Message, Reason> {
    let fault = |words: &str| Err(Reason::new(ReasonKind::Protocol, format!("{STEP}: {words}")));
    let Ok(answer) = Message::from_vec(bytes) else { return fault("the answer is not DNS") };
    if answer.metadata.message_type != MessageType::Response {
        return fault("a question came back, not an answer");
    }
    if answer.metadata.id != question.metadata.id {
        return fault("the answer has another id");
    }
    // Of an error, some servers do not repeat the question.
    if answer.queries != question.queries && !answer.queries.is_empty() {
        return fault("the answer is to another question");
    }
    Ok(answer)
}

fn judge(dns: &Dns, answer: &Message) -> Result<(), Reason> {
    let code = answer.metadata.response_code.low();
    if code != dns.rcode.number() {
        let came = Rcode::from_number(code).map_or_else(|| format!("code {code}"), |known| known.to_string());
        return Err(Reason::new(ReasonKind::Dns, format!("{STEP}: {came}, wanted {}", dns.rcode)));
    }
    let Some(wanted) = &dns.answer else { return Ok(()) };
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    let record = dns.record.to_string();
    let records = answer
        .answers
        .iter()
        .filter(|found| found.dns_class == DNSClass::IN && found.data.record_type().to_string() == record);
    let found: Vec<_> = records.map(|record| plain(&record.data.to_string())).collect();
    if found.contains(&plain(wanted)) {
        return Ok(());
    }
    let came = match (&found[..], answer.metadata.truncation) {
        ([], true) => "a truncated answer".to_owned(),
        ([], false) => format!("no {record} record"),
        (found, _) => found[..found.len().min(3)].join(", "),
    };
    Err(Reason::new(ReasonKind::Mismatch, format!("{STEP}: {came}, wanted {wanted}")))
}
