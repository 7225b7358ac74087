//! Sockets in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

/// Listens for connections; everybody whom `mode` lets may write.
///
/// # Errors
/// Input/output; somebody listens there already.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    clear(path, || UnixStream::connect(path).is_ok())?;
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Binds a socket for datagrams; everybody whom `mode` lets may write.
///
/// # Errors
/// Input/output; somebody listens there already.
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixDatagram> {
    let answers = || UnixDatagram::unbound().is_ok_and(|socket| socket.connect(path).is_ok());
    clear(path, answers)?;
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(socket)
}

/// Removes a socket that a server which is gone left behind; nothing else.
fn clear(path: &Path, is_served: impl FnOnce() -> bool) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && !is_served() {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_sockets_are_replaced_and_others_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let first = listen(&path, 0o600).expect("listens");
        assert_eq!(
            listen(&path, 0o600).map(drop).map_err(|e| e.kind()),
            Err(io::ErrorKind::AddrInUse)
        );
        drop(first);
        drop(listen(&path, 0o666).expect("the old one is gone"));
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        drop(bind(&path, 0o600).expect("the old one is gone"));

        let file = folder.path().join("f");
        fs::write(&file, "data").expect("written");
        assert!(listen(&file, 0o600).is_err());
        assert_eq!(fs::read(&file).expect("still there"), b"data");
    }
}
