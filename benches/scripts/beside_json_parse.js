import { sleep } from 'k6';
import { Trend } from 'k6/metrics';

// How much longer than asked for a short sleep takes: the wait for the other VU.
const late = new Trend('late');
const text = JSON.stringify(Array.from({ length: 500 }, (_, i) => ({ id: i, name: `name ${i}`, list: [1, 2, 3] })));

export const options = {
  scenarios: {
    busy: { executor: 'constant-vus', vus: 1, duration: '5s', gracefulStop: '0s', exec: 'busy' },
    nap: { executor: 'constant-vus', vus: 1, duration: '5s', gracefulStop: '0s' },
  },
};

export function busy() {
  for (;;) JSON.parse(text);
}

export default function () {
  const start = Date.now();
  sleep(0.005);
  late.add(Date.now() - start - 5);
}
