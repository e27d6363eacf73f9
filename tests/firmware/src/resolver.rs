//! A DNS server that knows one name.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Of this machine's loopback, used by nobody else.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 1);

/// A running DNS server; ends when dropped.
pub struct Resolver {
    asked: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Resolver {
    /// Answers that `name` is `ip`, and that no other name exists.
    ///
    /// # Panics
    /// Without the right to take port 53, which is that of the system's administrator.
    pub async fn start(name: &str, ip: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((ADDRESS, 53)).await;
        let socket = socket.unwrap_or_else(|why| panic!("port 53 of {ADDRESS}: {why}; run this test as root"));
        let asked = Arc::new(AtomicU32::new(0));
        let (name, count) = (name.to_owned(), asked.clone());
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut query).await {
                count.fetch_add(1, Ordering::Relaxed);
                let answered = answer(query.get(..len).unwrap_or_default(), &name, ip);
                socket.send_to(&answered, from).await.expect("loopback takes it");
            }
        });
        Self { asked, task }
    }

    /// Where it answers, on port 53.
    pub fn ip(&self) -> IpAddr {
        ADDRESS.into()
    }

    /// How often it was asked.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(query: &[u8], name: &str, ip: Ipv4Addr) -> Vec<u8> {
    let mut reply = Packet::parse(query).expect("a query").into_reply();
    let question = reply.questions.first().expect("a question").clone();
    if question.qname.to_string() != name {
        *reply.rcode_mut() = RCODE::NameError;
    } else if question.qtype == QTYPE::TYPE(TYPE::A) {
        reply.answers.push(ResourceRecord::new(question.qname, CLASS::IN, 60, RData::A(ip.into())));
    }
    reply.build_bytes_vec().expect("a short answer")
}
