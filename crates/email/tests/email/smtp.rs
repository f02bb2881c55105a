//! A mail server for tests: the part of RFC 5321 that a client needs, with scripted replies.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::BASE64;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What the server answers to a mail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// 451, after the mail.
    Later,
    /// 550, to the recipient.
    Never,
    /// No reply: the server closes the connection when a mail would begin.
    HangUp,
}

/// A mail that was accepted.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Waits for something that must happen soon.
pub(crate) async fn within<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), coming).await.expect("nothing has come")
}

pub(crate) struct Server {
    pub(crate) url: String,
    mails: mpsc::UnboundedReceiver<Received>,
    script: Arc<Mutex<VecDeque<Reply>>>,
}

impl Server {
    /// Replies as the script says, and accepts everything after its end.
    pub(crate) async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let (sender, mails) = mpsc::unbounded_channel();
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), sender.clone()));
            }
        });
        Self { url, mails, script }
    }

    pub(crate) async fn mail(&mut self) -> Received {
        within(self.mails.recv()).await.unwrap()
    }

    pub(crate) fn is_idle(&mut self) -> bool {
        self.mails.try_recv().is_err()
    }

    /// Adds these replies to the script.
    pub(crate) fn then(&self, script: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().extend(script);
    }

    pub(crate) fn script_len(&self) -> usize {
        self.script.lock().unwrap().len()
    }
}

async fn serve(
    stream: TcpStream,
    script: Arc<Mutex<VecDeque<Reply>>>,
    mails: mpsc::UnboundedSender<Received>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 here\r\n").await.ok()?;
    let (mut from, mut to) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match &*word {
            "EHLO" => "250-here\r\n250 8BITMIME\r\n",
            "MAIL" => {
                line.clone_into(&mut from);
                "250 OK\r\n"
            }
            "RCPT" => {
                line.clone_into(&mut to);
                let reply = script.lock().unwrap().front().copied();
                match reply {
                    Some(Reply::Never) => {
                        script.lock().unwrap().pop_front();
                        "550 nobody here\r\n"
                    }
                    _ => "250 OK\r\n",
                }
            }
            "DATA" => {
                let reply = script.lock().unwrap().pop_front();
                if let Some(Reply::HangUp) = reply {
                    return None;
                }
                stream.write_all(b"354 go on\r\n").await.ok()?;
                let text = data(&mut stream).await?;
                match reply {
                    None => {
                        mails.send(received(&from, &to, &text)).ok()?;
                        "250 OK\r\n"
                    }
                    _ => "451 later\r\n",
                }
            }
            "RSET" | "NOOP" => "250 OK\r\n",
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await.ok()?;
                return Some(());
            }
            _ => "500 what\r\n",
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn data(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut text = String::new();
    loop {
        let start = text.len();
        stream.read_line(&mut text).await.ok()?;
        match &text[start..] {
            ".\r\n" => {
                text.truncate(start);
                return Some(text);
            }
            "" => return None,
            _ => {}
        }
    }
}

fn received(from: &str, to: &str, text: &str) -> Received {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Transfer-Encoding: base64"), "{head}");
    assert!(text.is_ascii() && text.split("\r\n").all(|line| line.len() <= 998 && !line.contains('\n')));
    let body = BASE64.decode(body.replace("\r\n", "").as_bytes()).unwrap();
    let between = |text: &str| text.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned();
    Received {
        from: between(from),
        to: between(to),
        head: head.to_owned(),
        body: String::from_utf8(body).unwrap(),
    }
}

impl Received {
    /// The names of the headers, in order.
    pub(crate) fn headers(&self) -> Vec<&str> {
        let lines = self.head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        lines.map(|line| line.split_once(':').unwrap().0).collect()
    }

    /// The subject, its encoded words (RFC 2047) decoded, and single spaces between words.
    pub(crate) fn subject(&self) -> String {
        let start = self.head.find("Subject: ").unwrap() + "Subject: ".len();
        let mut lines = self.head[start..].split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let subject = lines.take_while(|line| line.starts_with(' ')).fold(first, |all, line| all + line);
        let mut decoded = String::new();
        let mut after_word = false;
        for word in subject.split(' ').filter(|word| !word.is_empty()) {
            let encoded = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
            let text = match encoded {
                Some(text) => String::from_utf8(BASE64.decode(text.as_bytes()).unwrap()).unwrap(),
                None => word.to_owned(),
            };
            // White space between two encoded words is not part of the text (RFC 2047, section 6.2).
            if !(decoded.is_empty() || after_word && encoded.is_some()) {
                decoded.push(' ');
            }
            decoded += &text;
            after_word = encoded.is_some();
        }
        decoded.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}
