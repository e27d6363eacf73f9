# The page docs/FOOTPRINT.md; sourced by `measure`, which has made the rows.

page() {
    cat <<PAGE
# What the device client needs

Written by \`firmware-example/footprint/measure --write\`; \`./test firmware\` checks thumbv7m against its limits. \`client\` is
the client over plain links, \`seal\` adds Noise (login and attach), \`flash\` adds to that the cursor and records in flash,
\`queue\` to that the events in flash; \`blob\` is \`flash\` and transfers: signed images into a partition, and files the other way.

## Flash and static RAM

The client linked whole (messages, calls, events, one interface) by $(/usr/bin/rustc --version 2>/dev/null | cut -d' ' -f1-2), \`opt-level = "z"\`, LTO, SHA-256 without
unrolled rounds; network, clock and randomness are functions outside. Bytes over an empty image. Static RAM is \`State\` with
its defaults (512-byte frames); the futures of the tasks, which an executor places statically too, have a column of their own.

The goals, 40 KiB of flash sealed and 12 KiB plain, are missed. Where the bytes are on thumbv7m (by hand, from the debug
information of November 2026, when the client took 30226 bytes and the sealed one 49906: each instruction counts for the
innermost of these that it was inlined from):

| part | client | sealed |
|---|---|---|
| rules of the session: mailbox, acks, generations, calls, events, heartbeat, back-off | 8340 | 8310 |
| frames and messages: postcard, CRC | 4940 | 6050 |
| handles and queues: messages, calls, replies, events, the lock | 4890 | 5200 |
| connection, runner and their futures; sealed with the handshake's | 4460 | 7140 |
| sealed link: login, attach, records | | 2980 |
| \`noise-protocol\` and its arrays | | 3900 |
| X25519 | | 4330 |
| ChaCha20-Poly1305 | 70 | 2650 |
| SHA-256, HMAC | 510 | 840 |
| addresses as text: \`core::net\`, IPv6 included | 1540 | 1470 |
| \`memmove\`, \`memcpy\`, UTF-8, sealed also formatting of a Noise name | 1660 | 2670 |
| what else is of \`core\` and small crates | 1350 | 2130 |
| the weighed device itself: its handlers and \`StaticCell\` | 1750 | 2130 |
| constants | 900 | 1260 |

No one part is the reason: without the rules of the session nothing would be once or in order, and those with their frames
alone exceed 12 KiB. Sealed, 10 KB are missing; the cryptography as it is here takes 15.

What was tried and kept, bytes less for the client plain and sealed:

| what | plain | sealed |
|---|---|---|
| \`opt-level = "z"\` for \`"s"\` | 6216 | 7682 |
| a CRC without its table | 1020 | 1020 |
| X25519's public keys by the ladder of its shared secrets | | 1900 |
| an interface's bytes made by the compiler, not the schemas' serialisation three times | 2532 | 2972 |
| leaving as part of being attached (no copy of that state), no division in 64 bits | 1814 | 1462 |
| one function that compares message ids | 140 | 932 |
| times of 64 bits added and subtracted in one place | 356 | 616 |
| IPv6 addresses a feature, which the boards leave out | 1200 | 1170 |

Keys that overwrite themselves wherever the handshake holds them cost 1400 of the sealed client.
Calls in fixed places instead of a vector, own shifting of queues and writes without \`copy_within\` and \`write_all\` took
back 370 and 820: the price of no panic in them.

| target | layer | flash | static RAM | futures |
|---|---|---|---|---|
$rows
\`-Zbuild-std-features=optimize_for_size\`, where \`core\` is built with the image, would take another 0, 208 and 212 bytes off
client, seal and flash on thumbv7m (November 2026); the figures here are without it.

What carries the bytes is apart from these: a board without a network of its own links it beside them. On \`thumbv7m-none-eabi\`, with
1.5 KiB of buffers for one connection; the driver, whose functions are outside, is not in it:

| network | flash | static RAM | futures |
|---|---|---|---|
$network_row

## The same job by others

A lamp over MQTT 5: it connects, logs in, subscribes, carries out commands at QoS 1 and acknowledges them, publishes an event
that is kept until it is acknowledged, pings each 300 s, and comes back to its session when the link is lost. Built, linked
and weighed by the same script as above, on \`thumbv7m-none-eabi\`, with the same functions outside; packets of up to 512 bytes.
The sources are in \`firmware-example/footprint/peers\`; run on a host, they did that job with mosquitto 2.0.11 on all three
links. Where a client has its state (a static, or the future) is its own affair: compare the sum of both.

| client | link | flash | static RAM | futures | calls that can panic |
|---|---|---|---|---|---|
$own_rows$peer_rows
\`psk\` and \`cert\` are TLS 1.3 by embedded-tls $(locked_version embedded-tls peers/Cargo.lock) (AES-128-GCM, P-256). With \`psk\` the device and the broker have one
secret; with \`cert\` the device checks the broker's certificate (ECDSA over P-256, no dates, for want of a clock) and says who
it is by a password. Its memory for records holds what the device asks the broker to keep to (\`max_fragment_length\`: 1,024
bytes, with certificates 2,048); with a broker that does not know this extension it has to be 16,640.

- **rust-mqtt** hands over what MQTT has, QoS 2 included, and leaves to the application what to send again, when to ping and
  when to connect again, which is written out in the weighed device; it may acknowledge after the handler, as imlink does.
- **minimq** pings and sends events again by itself in the least flash of all; it acknowledges a command when it is asked
  for the next one, whatever became of it: a device cannot refuse one, or take longer over one and still ping.
- **Neither** has calls with deadlines, a cursor by which a command is handled once, the state of a message to be asked for,
  generations that tell of a store that was rolled back, or back-off with jitter. **imlink** in turn has no topics that
  devices choose, no retained messages, and needs its own server. What makes the sealed client smaller is Noise with one
  curve and no certificates, not the rest: over plain links minimq takes less than two thirds of imlink's flash.

### Figures published by others

By their makers, measured in their ways; none is with what carries the bytes (TCP, Wi-Fi), and of these only Golioth's
counts memory.

| library | figure | for | source |
|---|---|---|---|
| coreMQTT | 18.9 K at \`-Os\`, 23.2 K at \`-O1\` | code, GCC for Arm Cortex-M, MQTT 5; without TLS, without the application's buffers | \`docs/doxygen/include/size_table.md\` of v5.0.2's repository, 28 April 2026 |
| zenoh-pico | "less than 50KB", "~15KB in tailored compilation setups" | flash; architecture and options are not in the part that was read; without TLS | zenoh.io, "Zenoh-Pico: Above and Beyond", 9 June 2022; nothing in its repository's documentation (July 2026) |
| Golioth SDK | 32,471 bytes of flash, 1,641 of static RAM, about 18,760 of heap; DTLS and CoAP about 35,072 of heap more | \`libgolioth_sdk.a\` in \`golioth_basics\`, ESP-IDF 4.4.2, ESP32; without DTLS, CoAP, Wi-Fi | \`docs/Flash_and_RAM_Usage.md\` of golioth-firmware-sdk 0.22.0, figures of December 2022 |

## On the wire

The example firmware in QEMU against a gateway, sealed link. Payload bytes are those of TCP; on the cable, Ethernet, IP and TCP
headers and acknowledgements are in.

| what | from the device | to the device | on the cable |
|---|---|---|---|
$(grep -v -e '^| stack' -e '^| handshake' <<<"$wire")

## Handshake

Instructions of the board's Cortex-M3 in QEMU (\`-icount\`), the whole image at \`opt-level = "z"\`, between packets on its cable:
from TCP's handshake to the first frame, and from the answer to the second frame, which is the \`Hello\`. They are instructions
and not cycles: a chip adds wait states of its flash, the bus, and the further cycles of multiplications, loads and
branches, so that the last column is what a chip at 64 MHz with one instruction in each cycle would take, and no promise.

| what | to the first frame | after the answer | in all | ms at 64 MHz |
|---|---|---|---|---|
$(sed -n 's/^| handshake: /| /p' <<<"$wire")

## Stack

| what | bytes |
|---|---|
$(grep '^| stack' <<<"$wire" | sed 's/, the whole image/ of the whole QEMU image (network, client, flash, logging by semihosting):/; s/:.s high-water mark/: high-water mark/')

## Panics

Call sites that can panic in the linked client on thumbv7m, by the crate whose code makes the call (the measuring script
follows inlined functions by the debug information). In imlink's own crates there is none, and the script allows none, but
what the compiler adds to each async function for a future that is polled after its end, which no executor does:

| layer | crate and kind | calls |
|---|---|---|
${kinds}
What remains elsewhere: postcard's writer of varints indexes an array of fixed size; core's parser of IPv6 addresses slices
within its own array; Noise and the ciphers check lengths that are constant here; core's own are the panicking functions
themselves and \`RefCell\`, which a closure given to \`payload\` would meet if it used the client again, as its
documentation says. None is known that what a peer sends could reach: the hostile servers of the tests in QEMU find none.
PAGE
}
