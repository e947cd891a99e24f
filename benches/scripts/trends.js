import http from 'k6/http';
import { Trend } from 'k6/metrics';

export const options = { vus: 20, duration: '60s', discardResponseBodies: true };

const times = new Trend('times', true);
const sizes = new Trend('sizes');

// Twelve combinations of tags, and values that never repeat for long.
export default function () {
  const n = __ITER + __VU;
  const tags = { color: `c${n % 3}`, shape: `s${n % 4}` };
  const answer = http.get(__ENV.TARGET);
  for (let i = 0; i < 10; i++) {
    times.add(answer.timings.duration * Math.random() * 1000, tags);
    sizes.add(n * Math.random(), tags);
  }
}
