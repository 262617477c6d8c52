/**
 * A zip archive of texts and pictures, stored and not compressed (PKWARE's APPNOTE 6.3.10, sections 4.3.7,
 * 4.3.12 and 4.3.16). At most 65,535 files and 4 GiB.
 */

const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50;
const VERSION = 20, UTF8 = 0x0800, STORED = 0;

const TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** CRC-32 as zip, PNG and gzip have it. */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** A Blob of [name, text or Uint8Array] pairs; names are relative paths, each of its own. */
export function zip(files, time = new Date()) {
  const encoder = new TextEncoder();
  const body = [], directory = [];
  let offset = 0;
  for (const [name, content] of files) {
    const path = encoder.encode(name);
    const data = typeof content === "string" ? encoder.encode(content) : content;
    const common = [
      [2, UTF8], [2, STORED], ...dosTime(time), [4, crc32(data)],
      [4, data.length], [4, data.length], [2, path.length], [2, 0],
    ];
    const local = pack([[4, LOCAL], [2, VERSION], ...common]);
    body.push(local, path, data);
    directory.push(
      pack([
        [4, CENTRAL], [2, VERSION], [2, VERSION], ...common,
        [2, 0], [2, 0], [2, 0], [4, 0], [4, offset],
      ]),
      path,
    );
    offset += local.length + path.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = directory.length / 2;
  const end = pack([[4, END], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]]);
  return new Blob([...body, ...directory, end], { type: "application/zip" });
}

/** Time and date as MS-DOS has them: two seconds apart, from 1980. */
function dosTime(time) {
  const clock = (time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1);
  const date = ((time.getFullYear() - 1980) << 9) | ((time.getMonth() + 1) << 5) | time.getDate();
  return [[2, clock], [2, date]];
}

/** Little-endian integers of [bytes, value]. */
function pack(fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}
