import http from 'k6/http';

export const options = { batch: 10, batchPerHost: 10 };

const requests = Array.from({ length: 10 }, () => ['GET', __ENV.TARGET]);

export default function () {
  http.batch(requests);
}
