// Waits for states, never for times.

/** How long a state may be awaited before a test is taken for hung, milliseconds. */
export const HANG = 120_000

/** Resolves with the result of `check` once that is true. */
export async function until(what, check, guard = HANG) {
  const end = Date.now() + guard
  for (;;) {
    const value = await check()
    if (value) return value
    if (Date.now() > end) throw new Error(`waited ${guard} ms in vain until ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** The promise's value, or an error with the name of what did not come. */
export function guarded(what, promise, guard = HANG) {
  let timer
  const hang = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${guard} ms in vain for ${what}`)), guard)
  })
  return Promise.race([promise, hang]).finally(() => clearTimeout(timer))
}

/** A queue that a test reads in order: events are `put` into it, and the test awaits `take` or `takeIf`. */
export class Mailbox {
  constructor(what) {
    this.what = what
    this.items = []
    this.readers = []
  }

  put(item) {
    const reader = this.readers.shift()
    if (reader) reader(item)
    else this.items.push(item)
  }

  /** The next item. */
  take() {
    if (this.items.length > 0) return Promise.resolve(this.items.shift())
    return guarded(this.what, new Promise(resolve => this.readers.push(resolve)))
  }

  /** The next item for which `wanted` holds; others are dropped. */
  async takeIf(wanted) {
    for (;;) {
      const item = await this.take()
      if (wanted(item)) return item
    }
  }
}
