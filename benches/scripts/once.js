export const options = { scenarios: { s: { executor: 'per-vu-iterations', vus: 10000, iterations: 1 } } };
export default function () {}
