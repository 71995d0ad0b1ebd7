/** Where the quickstart tells what it does. */
export interface Output {
  /** A numbered step begins. */
  step(title: string): void;
  /** Something worth keeping on the screen. */
  line(text: string): void;
  /** Replaces the last progress line where that can be seen; elsewhere it is printed now and then. Nothing is said twice. */
  progress(text: string): void;
}

/** @param isTerminal whether a line can be written over; otherwise progress is printed at most every `PLAIN_EVERY_MS` */
export function createOutput(write: (text: string) => void, isTerminal: boolean, now: () => number): Output {
  let count = 0;
  let hasProgress = false;
  let lastProgress = Number.NEGATIVE_INFINITY;
  let lastText: string | undefined;
  const clear = (): void => {
    if (isTerminal && hasProgress) write("\r\u001b[K");
    hasProgress = false;
  };
  return {
    step(title) {
      clear();
      lastProgress = Number.NEGATIVE_INFINITY;
      count++;
      write(isTerminal ? `\n\u001b[1m${count}. ${title}\u001b[0m\n` : `\n${count}. ${title}\n`);
    },
    line(text) {
      clear();
      lastText = text;
      write(`   ${text}\n`);
    },
    progress(text) {
      if (text === lastText) return;
      if (isTerminal) {
        lastText = text;
        write(`\r\u001b[K   ${text}`);
        hasProgress = true;
      } else if (now() - lastProgress >= PLAIN_EVERY_MS) {
        lastProgress = now();
        lastText = text;
        write(`   ${text}\n`);
      }
    },
  };
}

const PLAIN_EVERY_MS = 5000;
