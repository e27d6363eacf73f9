//! Tables of handlers for typed paths.

use imlink_protocol::Key;
use imlink_protocol::interface::Kind;
use postcard_schema::Schema;

use crate::interface::Interface;

/// Handles a message by a table: its key chooses the arm, its payload is decoded as the arm's type.
///
/// Gives what the handler of [`Messages::for_each`](crate::Messages::for_each) returns: an arm's
/// `Result<(), Code>`, `BAD_PAYLOAD` when the payload is not of its type, `UNKNOWN_PATH` when no arm has its
/// key. An arm without a type looks at the raw payload itself. Arms may await.
///
/// ```
/// # use imlink_device_client::{Code, Message, Storage, handle, interface};
/// interface! {
///     /// What this lamp speaks.
///     pub LAMP {
///         Message SET = "led/set": bool;
///         Message SHOW = "text/show";
///     }
/// }
///
/// # fn lamp(on: bool) {} fn show(text: &[u8]) {}
/// # async fn handler<S: Storage>(message: &Message<'_, S>) -> Result<(), Code> {
/// handle!(LAMP: message, {
///     SET(on: bool) => {
///         lamp(on);
///         Ok(())
///     }
///     SHOW() => {
///         message.payload(show);
///         Ok(())
///     }
/// })
/// # }
/// ```
///
/// An arm whose type is not the one that the interface states does not compile:
///
/// ```compile_fail
/// # use imlink_device_client::{Code, Message, Storage, handle, interface};
/// # interface! { pub LAMP { Message SET = "led/set": bool; } }
/// # async fn handler<S: Storage>(message: &Message<'_, S>) -> Result<(), Code> {
/// handle!(LAMP: message, { SET(level: u32) => { Ok(()) } })
/// # }
/// ```
#[macro_export]
macro_rules! handle {
    ($table:ident: $message:expr, { $($key:ident ($($argument:ident : $payload:ty)?) => $body:block)* }) => {{
        let message = $message;
        match message.key() {
            $(key if key == $key => $crate::__arm!($table, Message, message, $key, ($($argument: $payload)?), $body),)*
            _ => Err($crate::Code::UNKNOWN_PATH),
        }
    }};
}

/// Answers a call by a table: its key chooses the arm, its payload is decoded as the arm's type, the arm's
/// `Result<value, Code>` is the reply, encoded.
///
/// Replies `bad-payload` when the payload is not of its type, `unknown-path` when no arm has its key. Gives
/// what [`Call::reply`](crate::Call::reply) gives. Arms may await; while one does, other calls need another
/// [`Calls`](crate::Calls) loop.
///
/// ```
/// # use imlink_device_client::{Call, Code, Storage, answer, interface};
/// interface! {
///     /// What this lamp speaks.
///     pub LAMP {
///         Call GET = "led/get";
///         Call DOUBLE = "double": u32;
///     }
/// }
///
/// # async fn next<S: Storage>(call: Call<'_, S>) {
/// let replied = answer!(LAMP: call, {
///     GET() => { Ok(true) }
///     DOUBLE(number: u32) => { number.checked_mul(2).ok_or(Code::BAD_PAYLOAD) }
/// });
/// # let _ = replied;
/// # }
/// ```
#[macro_export]
macro_rules! answer {
    ($table:ident: $call:expr, { $($key:ident ($($argument:ident : $payload:ty)?) => $body:block)* }) => {{
        let call = $call;
        match call.key() {
            $(key if key == $key => {
                match $crate::__arm!($table, Call, call, $key, ($($argument: $payload)?), $body) {
                    Ok(value) => call.reply_typed(&value).await,
                    Err(code) => call.fail(code).await,
                }
            })*
            _ => call.fail($crate::Code::UNKNOWN_PATH).await,
        }
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __arm {
    ($table:ident, $kind:ident, $from:ident, $key:ident, (), $body:block) => {{
        const _: () = assert!($crate::states($table, $crate::Kind::$kind, $key), "the table does not list this key");
        $body
    }};
    ($table:ident, $kind:ident, $from:ident, $key:ident, ($argument:ident : $payload:ty), $body:block) => {{
        const _: () = assert!(
            $crate::states_payload::<$payload>($table, $crate::Kind::$kind, $key),
            "the table states another type for this key"
        );
        match $from.decode::<$payload>() {
            Some($argument) => $body,
            None => Err($crate::Code::BAD_PAYLOAD),
        }
    }};
}

/// Whether `table` lists `key` for `kind`.
pub const fn states(table: Interface, kind: Kind, key: Key) -> bool {
    table.path(kind, key).is_some()
}

/// Whether `table` lists `key` for `kind` with payloads of type `T`.
pub const fn states_payload<T: Schema + ?Sized>(table: Interface, kind: Kind, key: Key) -> bool {
    match table.path(kind, key) {
        Some(path) => u32::from_le_bytes(Key::for_path::<T>(path).0) == u32::from_le_bytes(key.0),
        None => false,
    }
}
