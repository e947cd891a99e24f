import get from './alone_get.js';

export const options = {
  scenarios: {
    busy: { executor: 'constant-vus', vus: 1, duration: '3s', gracefulStop: '0s', exec: 'busy' },
    get: { executor: 'constant-vus', vus: 1, duration: '3s', gracefulStop: '0s' },
  },
};

export function busy() {
  while (true) {}
}

export default get;
