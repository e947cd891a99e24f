import { sleep } from 'k6';

export const options = { iterations: 1 };

// A call of a native that has nothing to do, ten million times, or the loop alone.
export default function () {
  if (__ENV.CALL) {
    for (let i = 0; i < 1e7; i++) sleep(0);
  } else {
    for (let i = 0; i < 1e7; i++);
  }
}
