import { sleep } from 'k6';
import { Trend } from 'k6/metrics';

// Each series of a trend is seven lines of the exposition.
const trend = new Trend('many');

export const options = { vus: 1, iterations: 1 };

export default function () {
  for (let i = 0; i < 720; i++) {
    for (let n = 0; n < 50; n++) trend.add(n, { page: `page ${i}`, area: 'bench' });
  }
  sleep(60);
}
