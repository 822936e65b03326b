// By what one file is known from another one of the same name, size and time: copies of a camera's card, containers and
// disk images whose time is kept. Parts of two files must never become one.

import { Failure } from './failure.js'

const WHOLE = 32 * 1024 * 1024 // bytes up to which all of a file is read
const PIECES = 256 // of a larger one
const PIECE = 64 * 1024

/** A text that differs between two files, unless a large one differs in places only that are not looked at. */
export async function printOf(data) {
  let [first, second] = [0x811c9dc5, 0x9e3779b9]
  for (const [start, end] of piecesOf(data.size)) {
    const words = new DataView(await read(data.slice(start, end)))
    let at = 0
    for (; at + 4 <= words.byteLength; at += 4) {
      const word = words.getUint32(at, true)
      first = Math.imul(first ^ word, 0x01000193)
      first ^= first >>> 15
      second = Math.imul(second ^ word, 0x85ebca6b)
      second ^= second >>> 13
    }
    for (; at < words.byteLength; at += 1) {
      first = Math.imul(first ^ words.getUint8(at), 0x01000193)
      second = Math.imul(second ^ words.getUint8(at), 0x85ebca6b)
    }
  }
  return [first, second].map((number) => (number >>> 0).toString(16).padStart(8, '0')).join('')
}

/** What is read: all of it, or pieces from its first byte to its last one, as far from each other. */
function piecesOf(size) {
  const pieces = []
  if (size <= WHOLE) {
    for (let start = 0; start < size; start += 1024 * 1024) pieces.push([start, Math.min(size, start + 1024 * 1024)])
    return pieces
  }
  const last = size - PIECE
  for (let number = 0; number < PIECES; number += 1) {
    const start = Math.floor((last / (PIECES - 1)) * number)
    pieces.push([start, start + PIECE])
  }
  return pieces
}

async function read(slice) {
  try {
    return await slice.arrayBuffer()
  } catch {
    throw new Failure('changed')
  }
}
