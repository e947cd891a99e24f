import compute from './alone_compute.js';

export const options = {
  scenarios: {
    busy: { executor: 'constant-vus', vus: 1, duration: '3s', gracefulStop: '0s', exec: 'busy' },
    compute: { executor: 'constant-vus', vus: 1, duration: '3s', gracefulStop: '0s' },
  },
};

export function busy() {
  while (true) {}
}

export default compute;
