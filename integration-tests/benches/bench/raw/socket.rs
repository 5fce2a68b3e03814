//! Blocking sockets as the raw programs use them.

use std::net::{TcpListener, TcpStream};

use anyhow::Result;
use proto::client::CongestionControl;
use serde_json::{Value, json};

fn tune(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    Ok(CongestionControl::Auto.apply(stream, stream.peer_addr()?)?)
}

pub(super) fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    tune(&stream)?;
    Ok(stream)
}

/// Serves one connection after the other until killed.
pub(super) fn serve(mut each: impl FnMut(TcpStream) -> Result<()>) -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", json!({ "ready": true, "address": listener.local_addr()?.to_string() }));
    loop {
        let (stream, _) = listener.accept()?;
        tune(&stream)?;
        each(stream)?;
    }
}
