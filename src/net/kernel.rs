//! What the kernel says of our sockets: datagrams it dropped because nobody read them in time.

use std::collections::HashMap;

/// Datagrams dropped, by the inode of the socket; empty where the kernel does not tell (other systems than Linux).
pub fn dropped_datagrams() -> HashMap<u64, u64> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    let texts = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok());
    texts.flat_map(|text| parse(&text)).collect()
}

/// The tenth column is the inode, the last the drops.
fn parse(table: &str) -> Vec<(u64, u64)> {
    let line = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let inode = columns.nth(9)?.parse().ok()?;
        let drops = columns.next_back()?.parse().ok()?;
        Some((inode, drops))
    };
    table.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_by_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     \x20 315: 0100007F:1F99 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12345 2 0000000000000000 77\n\
                     \x20 316: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12346 2 0000000000000000 0\n\
                     broken\n";
        assert_eq!(parse(table), [(12345, 77), (12346, 0)]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_nobody_reads_is_seen_to_drop() {
        use std::os::fd::AsFd;
        let address = "127.0.0.1:0".parse().expect("an address");
        let socket = crate::net::udp::bind(address, 1, 4096).expect("bound").remove(0);
        let inode = rustix::fs::fstat(socket.as_fd()).expect("a file").st_ino;
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        assert_eq!(dropped_datagrams().get(&inode), Some(&0));
        for _ in 0..200 {
            sender
                .send_to(&[0; 1000], socket.local_addr().expect("bound"))
                .expect("sent");
        }
        assert!(dropped_datagrams()[&inode] > 0);
    }
}
