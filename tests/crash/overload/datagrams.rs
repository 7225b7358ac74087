//! Datagrams, more than anybody can read: each that was sent is counted, as received or as dropped.

use super::clients::{Clients, add};
use super::wait_for;
use crate::start::figure;
use crate::support::{Server, get};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One way in for datagrams.
pub struct Datagrams {
    /// Its name in /metrics.
    from: String,
    address: String,
    datagram: Vec<u8>,
    sent: AtomicU64,
}

impl Datagrams {
    pub fn new(from: &str, address: &str, datagram: Vec<u8>) -> Self {
        Self {
            from: from.into(),
            address: address.into(),
            datagram,
            sent: AtomicU64::new(0),
        }
    }

    /// Sends for as long as the load lasts.
    pub fn send(&self, clients: &Clients) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        while clients.go_on() {
            for _ in 0..100 {
                let sent = u64::from(socket.send_to(&self.datagram, &self.address).is_ok());
                add(&self.sent, sent);
                add(&clients.tally.datagrams, sent);
            }
        }
    }

    /// Waits until all that were sent are counted; `network_dropped` may have been lost before they came to the socket.
    pub fn are_accounted_for(&self, server: &Server, network_dropped: u64) {
        let sent = self.sent.load(Relaxed);
        let counted = |metrics: &str| {
            ["requests", "kernel_dropped"]
                .map(|what| {
                    figure(
                        metrics,
                        &format!("kymo_ingest_{what}_total{{from=\"{}\"}}", self.from),
                    )
                })
                .iter()
                .sum::<u64>()
        };
        let what = format!("{}: {sent} were sent, {network_dropped} lost before", self.from);
        wait_for(server, &what, |metrics| {
            let counted = counted(metrics);
            assert!(counted <= sent, "{what}, {counted} are counted");
            counted + network_dropped >= sent
        });
    }
}

/// Datagrams that the server or the kernel dropped, of all listeners.
pub fn dropped(server: &Server) -> u64 {
    let (_, metrics) = get(&server.url("/metrics")).unwrap_or_default();
    let names = [
        "kymo_ingest_datagrams_dropped_total{",
        "kymo_ingest_kernel_dropped_total{",
    ];
    metrics
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Packets of the whole machine that found no room on their way to any socket (`/proc/net/softnet_stat`, second column).
pub fn dropped_by_the_network() -> u64 {
    let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let column = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    table.lines().filter_map(column).sum()
}
