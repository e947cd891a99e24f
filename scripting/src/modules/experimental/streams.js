// Readable and writable streams, by the algorithms of https://streams.spec.whatwg.org.
//
// What an object is made of is behind a private field; the functions below take that inner part,
// which only the classes can get at.

const ignore = () => {};

/** Marks a promise as handled: that nobody waits for it is no error. */
const quiet = (promise) => {
  promise.then(undefined, ignore);
  return promise;
};

const deferred = () => {
  const one = { settled: false };
  one.promise = new Promise((resolve, reject) => {
    one.resolve = (value) => {
      one.settled = true;
      resolve(value);
    };
    one.reject = (reason) => {
      one.settled = true;
      reject(reason);
    };
  });
  return one;
};

const resolvedDeferred = (value) => {
  const one = deferred();
  one.resolve(value);
  return one;
};

const rejectedDeferred = (reason) => {
  const one = deferred();
  one.reject(reason);
  quiet(one.promise);
  return one;
};

/** A list that is taken from the front without moving the rest each time. */
class Queue {
  #items = [];
  #start = 0;

  get length() {
    return this.#items.length - this.#start;
  }

  push(item) {
    this.#items.push(item);
  }

  first() {
    return this.#items[this.#start];
  }

  shift() {
    const item = this.#items[this.#start];
    this.#items[this.#start] = undefined;
    this.#start += 1;
    if (this.#start > 32 && this.#start * 2 > this.#items.length) {
      this.#items.splice(0, this.#start);
      this.#start = 0;
    }
    return item;
  }

  clear() {
    this.#items = [];
    this.#start = 0;
  }
}

/** Chunks with their sizes. */
class SizedQueue extends Queue {
  total = 0;

  add(chunk, size) {
    const number = Number(size);
    if (!(number >= 0) || number === Infinity) {
      throw new RangeError('The size of a chunk must be a finite, non-negative number');
    }
    this.push({ chunk, size: number });
    this.total += number;
  }

  take() {
    const { chunk, size } = this.shift();
    this.total = Math.max(0, this.total - size);
    return chunk;
  }

  clear() {
    super.clear();
    this.total = 0;
  }
}

/** A member of an underlying source or sink, or of a strategy, that is a function or missing. */
const callback = (object, name) => {
  const found = object[name];
  if (found !== undefined && typeof found !== 'function') {
    throw new TypeError(`${name} must be a function`);
  }
  return found;
};

const dictionary = (value, what) => {
  if (value === undefined || value === null) {
    return {};
  }
  if (typeof value !== 'object' && typeof value !== 'function') {
    throw new TypeError(`${what} must be an object`);
  }
  return value;
};

const highWaterMarkOf = (strategy, otherwise) => {
  if (strategy.highWaterMark === undefined) {
    return otherwise;
  }
  const number = Number(strategy.highWaterMark);
  if (!(number >= 0)) {
    throw new RangeError('highWaterMark must be a non-negative number');
  }
  return number;
};

const sizeOf = (strategy) => {
  const size = callback(strategy, 'size');
  return size === undefined ? () => 1 : (chunk) => size.call(undefined, chunk);
};

/** Calls a function that may be missing; the outcome is a promise, whatever it does. */
const promiseCall = (method, object, ...args) => {
  if (method === undefined) {
    return Promise.resolve();
  }
  try {
    return Promise.resolve(method.apply(object, args));
  } catch (error) {
    return Promise.reject(error);
  }
};

// === Readable streams ===

let innerReadable;
let makeReadable;

const isLocked = (stream) => stream.reader !== undefined;

const controllerAccepts = (controller) =>
  !controller.closeRequested && controller.stream.state === 'readable';

const controllerDesires = (controller) => {
  switch (controller.stream.state) {
    case 'errored':
      return null;
    case 'closed':
      return 0;
    default:
      return controller.highWaterMark - controller.queue.total;
  }
};

const controllerForget = (controller) => {
  controller.pull = undefined;
  controller.cancel = undefined;
  controller.size = undefined;
};

const controllerWantsPull = (controller) => {
  const { stream } = controller;
  if (!controllerAccepts(controller) || !controller.started) {
    return false;
  }
  return (isLocked(stream) && stream.reader.requests.length > 0) || controllerDesires(controller) > 0;
};

const pullIfNeeded = (controller) => {
  if (!controllerWantsPull(controller)) {
    return;
  }
  if (controller.pulling) {
    controller.pullAgain = true;
    return;
  }
  controller.pulling = true;
  controller.pull().then(
    () => {
      controller.pulling = false;
      if (controller.pullAgain) {
        controller.pullAgain = false;
        pullIfNeeded(controller);
      }
    },
    (error) => controllerError(controller, error),
  );
};

const readableClose = (stream) => {
  stream.state = 'closed';
  const { reader } = stream;
  if (reader === undefined) {
    return;
  }
  reader.closed.resolve(undefined);
  const { requests } = reader;
  reader.requests = new Queue();
  while (requests.length > 0) {
    requests.shift().close();
  }
};

const readableError = (stream, error) => {
  stream.state = 'errored';
  stream.storedError = error;
  const { reader } = stream;
  if (reader === undefined) {
    return;
  }
  reader.closed.reject(error);
  quiet(reader.closed.promise);
  failRequests(reader, error);
};

const failRequests = (reader, error) => {
  const { requests } = reader;
  reader.requests = new Queue();
  while (requests.length > 0) {
    requests.shift().error(error);
  }
};

const controllerError = (controller, error) => {
  if (controller.stream.state !== 'readable') {
    return;
  }
  controller.queue.clear();
  controllerForget(controller);
  readableError(controller.stream, error);
};

const controllerClose = (controller) => {
  if (!controllerAccepts(controller)) {
    return;
  }
  controller.closeRequested = true;
  if (controller.queue.length === 0) {
    controllerForget(controller);
    readableClose(controller.stream);
  }
};

const controllerEnqueue = (controller, chunk) => {
  if (!controllerAccepts(controller)) {
    return;
  }
  const { stream } = controller;
  if (isLocked(stream) && stream.reader.requests.length > 0) {
    stream.reader.requests.shift().chunk(chunk);
  } else {
    try {
      controller.queue.add(chunk, controller.size(chunk));
    } catch (error) {
      controllerError(controller, error);
      throw error;
    }
  }
  pullIfNeeded(controller);
};

const readableCancel = (stream, reason) => {
  stream.disturbed = true;
  if (stream.state === 'closed') {
    return Promise.resolve();
  }
  if (stream.state === 'errored') {
    return Promise.reject(stream.storedError);
  }
  readableClose(stream);
  const { controller } = stream;
  controller.queue.clear();
  const cancelled = controller.cancel(reason);
  controllerForget(controller);
  return cancelled.then(ignore);
};

const readableRead = (stream, request) => {
  stream.disturbed = true;
  if (stream.state === 'closed') {
    request.close();
    return;
  }
  if (stream.state === 'errored') {
    request.error(stream.storedError);
    return;
  }
  const { controller } = stream;
  if (controller.queue.length > 0) {
    const chunk = controller.queue.take();
    if (controller.closeRequested && controller.queue.length === 0) {
      controllerForget(controller);
      readableClose(stream);
    } else {
      pullIfNeeded(controller);
    }
    request.chunk(chunk);
  } else {
    stream.reader.requests.push(request);
    pullIfNeeded(controller);
  }
};

const acquireReader = (stream) => {
  if (isLocked(stream)) {
    throw new TypeError('The stream is locked to a reader already');
  }
  const reader = { stream, requests: new Queue() };
  if (stream.state === 'readable') {
    reader.closed = deferred();
  } else if (stream.state === 'closed') {
    reader.closed = resolvedDeferred();
  } else {
    reader.closed = rejectedDeferred(stream.storedError);
  }
  stream.reader = reader;
  return reader;
};

const releaseReader = (reader) => {
  const { stream } = reader;
  const released = new TypeError('The reader has been released');
  if (stream.state === 'readable') {
    reader.closed.reject(released);
    quiet(reader.closed.promise);
  } else {
    reader.closed = rejectedDeferred(released);
  }
  stream.reader = undefined;
  reader.stream = undefined;
  failRequests(reader, released);
};

const setUpReadable = (stream, start, pull, cancel, highWaterMark, size) => {
  const controller = {
    stream,
    queue: new SizedQueue(),
    started: false,
    closeRequested: false,
    pulling: false,
    pullAgain: false,
    highWaterMark,
    size,
    pull,
    cancel,
  };
  stream.controller = controller;
  const started = start(controller);
  Promise.resolve(started).then(
    () => {
      controller.started = true;
      pullIfNeeded(controller);
    },
    (error) => controllerError(controller, error),
  );
};

const newReadable = () => ({
  state: 'readable',
  reader: undefined,
  storedError: undefined,
  disturbed: false,
});

const tee = (stream) => {
  const reader = acquireReader(stream);
  const branches = [newReadable(), newReadable()];
  const cancelled = [false, false];
  const reasons = [undefined, undefined];
  const cancelDone = deferred();
  let reading = false;
  let readAgain = false;

  const pull = () => {
    if (reading) {
      readAgain = true;
      return Promise.resolve();
    }
    reading = true;
    readableRead(stream, {
      chunk(chunk) {
        // In a task of its own, so that the errors of a branch come before it reads on.
        Promise.resolve().then(() => {
          readAgain = false;
          branches.forEach((branch, i) => {
            if (!cancelled[i]) {
              controllerEnqueue(branch.controller, chunk);
            }
          });
          reading = false;
          if (readAgain) {
            pull();
          }
        });
      },
      close() {
        reading = false;
        branches.forEach((branch, i) => {
          if (!cancelled[i]) {
            controllerClose(branch.controller);
          }
        });
        if (!cancelled[0] || !cancelled[1]) {
          cancelDone.resolve(undefined);
        }
      },
      error() {
        reading = false;
      },
    });
    return Promise.resolve();
  };
  const cancel = (i) => (reason) => {
    cancelled[i] = true;
    reasons[i] = reason;
    if (cancelled[1 - i]) {
      cancelDone.resolve(readableCancel(stream, reasons));
    }
    return cancelDone.promise;
  };
  branches.forEach((branch, i) => setUpReadable(branch, ignore, pull, cancel(i), 1, () => 1));
  reader.closed.promise.then(undefined, (error) => {
    branches.forEach((branch) => controllerError(branch.controller, error));
    if (!cancelled[0] || !cancelled[1]) {
      cancelDone.resolve(undefined);
    }
  });
  return branches.map(makeReadable);
};

/** What only this file can pass to a constructor that scripts can call, too. */
const secret = {};

class ReadableStreamDefaultController {
  #inner;

  constructor(key, inner) {
    if (key !== secret) {
      throw new TypeError('Illegal constructor');
    }
    this.#inner = inner;
  }

  get desiredSize() {
    return controllerDesires(this.#inner);
  }

  close() {
    if (!controllerAccepts(this.#inner)) {
      throw new TypeError('The stream is not in a state that permits close');
    }
    controllerClose(this.#inner);
  }

  enqueue(chunk) {
    if (!controllerAccepts(this.#inner)) {
      throw new TypeError('The stream is not in a state that permits enqueue');
    }
    controllerEnqueue(this.#inner, chunk);
  }

  error(reason) {
    controllerError(this.#inner, reason);
  }
}

export class ReadableStream {
  #inner;

  static {
    innerReadable = (object) => {
      if (typeof object !== 'object' || object === null || !(#inner in object)) {
        throw new TypeError('A ReadableStream is expected');
      }
      return object.#inner;
    };
    makeReadable = (inner) => new ReadableStream(secret, inner);
  }

  constructor(underlyingSource, strategy) {
    if (underlyingSource === secret) {
      this.#inner = strategy;
      return;
    }
    const source = dictionary(underlyingSource, 'The underlying source');
    const queueing = dictionary(strategy, 'The strategy');
    const cancel = callback(source, 'cancel');
    const pull = callback(source, 'pull');
    const start = callback(source, 'start');
    if (source.type !== undefined) {
      const type = String(source.type);
      throw new TypeError(
        type === 'bytes'
          ? 'Streams of the type "bytes" are not supported, as in k6'
          : `Invalid type of a stream: ${type}`,
      );
    }
    const size = sizeOf(queueing);
    const highWaterMark = highWaterMarkOf(queueing, 1);
    const inner = newReadable();
    this.#inner = inner;
    let controller;
    setUpReadable(
      inner,
      (controls) => {
        controller = new ReadableStreamDefaultController(secret, controls);
        return start === undefined ? undefined : start.call(underlyingSource, controller);
      },
      () => promiseCall(pull, underlyingSource, controller),
      (reason) => promiseCall(cancel, underlyingSource, reason),
      highWaterMark,
      size,
    );
  }

  get locked() {
    return isLocked(this.#inner);
  }

  cancel(reason) {
    if (isLocked(this.#inner)) {
      return Promise.reject(new TypeError('A locked stream cannot be cancelled'));
    }
    return readableCancel(this.#inner, reason);
  }

  getReader(options) {
    const { mode } = dictionary(options, 'The options');
    if (mode !== undefined) {
      throw new TypeError(`Readers of the mode "${mode}" are not supported, as in k6`);
    }
    return new ReadableStreamDefaultReader(this);
  }

  tee() {
    return tee(this.#inner);
  }
}

export class ReadableStreamDefaultReader {
  #inner;

  constructor(stream) {
    this.#inner = acquireReader(innerReadable(stream));
  }

  get closed() {
    return this.#inner.closed.promise;
  }

  read() {
    const { stream } = this.#inner;
    if (stream === undefined) {
      return Promise.reject(new TypeError('The reader has been released'));
    }
    return new Promise((resolve, reject) => {
      readableRead(stream, {
        chunk: (value) => resolve({ value, done: false }),
        close: () => resolve({ value: undefined, done: true }),
        error: reject,
      });
    });
  }

  cancel(reason) {
    const { stream } = this.#inner;
    if (stream === undefined) {
      return Promise.reject(new TypeError('The reader has been released'));
    }
    return readableCancel(stream, reason);
  }

  releaseLock() {
    if (this.#inner.stream !== undefined) {
      releaseReader(this.#inner);
    }
  }
}

// === Writable streams ===

let innerWritable;

/** Stands in the queue for the end. */
const CLOSE = Symbol('close');

const closeQueuedOrInFlight = (stream) =>
  stream.closeRequest !== undefined || stream.inFlightClose !== undefined;

const sinkForget = (controller) => {
  controller.write = undefined;
  controller.close = undefined;
  controller.abort = undefined;
  controller.size = undefined;
};

const sinkDesires = (controller) => controller.highWaterMark - controller.queue.total;

const updateBackpressure = (stream, backpressure) => {
  const { writer } = stream;
  if (writer !== undefined && backpressure !== stream.backpressure) {
    if (backpressure) {
      writer.ready = deferred();
    } else {
      writer.ready.resolve(undefined);
    }
  }
  stream.backpressure = backpressure;
};

/** Rejects a promise that may be settled, by putting a rejected one in its place. */
const rejectAnew = (writer, name, error) => {
  if (writer[name].settled) {
    writer[name] = rejectedDeferred(error);
  } else {
    writer[name].reject(error);
    quiet(writer[name].promise);
  }
};

const startErroring = (stream, reason) => {
  stream.state = 'erroring';
  stream.storedError = reason;
  if (stream.writer !== undefined) {
    rejectAnew(stream.writer, 'ready', reason);
  }
  const inFlight = stream.inFlightWrite !== undefined || stream.inFlightClose !== undefined;
  if (!inFlight && stream.controller.started) {
    finishErroring(stream);
  }
};

const dealWithRejection = (stream, error) => {
  if (stream.state === 'writable') {
    startErroring(stream, error);
  } else {
    finishErroring(stream);
  }
};

const rejectCloseAndClosed = (stream) => {
  if (stream.closeRequest !== undefined) {
    stream.closeRequest.reject(stream.storedError);
    stream.closeRequest = undefined;
  }
  if (stream.writer !== undefined) {
    stream.writer.closed.reject(stream.storedError);
    quiet(stream.writer.closed.promise);
  }
};

const finishErroring = (stream) => {
  stream.state = 'errored';
  const { controller, storedError } = stream;
  controller.queue.clear();
  while (stream.requests.length > 0) {
    stream.requests.shift().reject(storedError);
  }
  const abort = stream.pendingAbort;
  if (abort === undefined) {
    rejectCloseAndClosed(stream);
    return;
  }
  stream.pendingAbort = undefined;
  if (abort.wasErroring) {
    abort.reject(storedError);
    rejectCloseAndClosed(stream);
    return;
  }
  const aborted = controller.abort(abort.reason);
  sinkForget(controller);
  aborted.then(
    () => {
      abort.resolve(undefined);
      rejectCloseAndClosed(stream);
    },
    (error) => {
      abort.reject(error);
      rejectCloseAndClosed(stream);
    },
  );
};

const finishClose = (stream) => {
  stream.inFlightClose.resolve(undefined);
  stream.inFlightClose = undefined;
  if (stream.state === 'erroring') {
    stream.storedError = undefined;
    if (stream.pendingAbort !== undefined) {
      stream.pendingAbort.resolve(undefined);
      stream.pendingAbort = undefined;
    }
  }
  stream.state = 'closed';
  if (stream.writer !== undefined) {
    stream.writer.closed.resolve(undefined);
  }
};

const failClose = (stream, error) => {
  stream.inFlightClose.reject(error);
  stream.inFlightClose = undefined;
  if (stream.pendingAbort !== undefined) {
    stream.pendingAbort.reject(error);
    stream.pendingAbort = undefined;
  }
  dealWithRejection(stream, error);
};

const sinkError = (controller, error) => {
  if (controller.stream.state === 'writable') {
    sinkForget(controller);
    startErroring(controller.stream, error);
  }
};

const advance = (controller) => {
  const { stream, queue } = controller;
  if (!controller.started || stream.inFlightWrite !== undefined) {
    return;
  }
  if (stream.state === 'erroring') {
    finishErroring(stream);
    return;
  }
  if (queue.length === 0) {
    return;
  }
  const { chunk } = queue.first();
  if (chunk === CLOSE) {
    stream.inFlightClose = stream.closeRequest;
    stream.closeRequest = undefined;
    queue.take();
    const closed = controller.close();
    sinkForget(controller);
    closed.then(
      () => finishClose(stream),
      (error) => failClose(stream, error),
    );
    return;
  }
  stream.inFlightWrite = stream.requests.shift();
  controller.write(chunk).then(
    () => {
      stream.inFlightWrite.resolve(undefined);
      stream.inFlightWrite = undefined;
      queue.take();
      if (!closeQueuedOrInFlight(stream) && stream.state === 'writable') {
        updateBackpressure(stream, sinkDesires(controller) <= 0);
      }
      advance(controller);
    },
    (error) => {
      if (stream.state === 'writable') {
        sinkForget(controller);
      }
      stream.inFlightWrite.reject(error);
      stream.inFlightWrite = undefined;
      dealWithRejection(stream, error);
    },
  );
};

const writableAbort = (stream, reason) => {
  if (stream.state === 'closed' || stream.state === 'errored') {
    return Promise.resolve();
  }
  if (stream.pendingAbort !== undefined) {
    return stream.pendingAbort.promise;
  }
  const wasErroring = stream.state === 'erroring';
  const abort = deferred();
  abort.reason = wasErroring ? undefined : reason;
  abort.wasErroring = wasErroring;
  stream.pendingAbort = abort;
  if (!wasErroring) {
    startErroring(stream, reason);
  }
  return abort.promise;
};

const writableClose = (stream) => {
  if (stream.state === 'closed' || stream.state === 'errored') {
    return Promise.reject(new TypeError(`A stream that is ${stream.state} cannot be closed`));
  }
  const request = deferred();
  stream.closeRequest = request;
  if (stream.writer !== undefined && stream.backpressure && stream.state === 'writable') {
    stream.writer.ready.resolve(undefined);
  }
  stream.controller.queue.add(CLOSE, 0);
  advance(stream.controller);
  return request.promise;
};

const writableWrite = (writer, chunk) => {
  const { stream } = writer;
  const { controller } = stream;
  let size = 1;
  if (controller.size !== undefined) {
    try {
      size = controller.size(chunk);
    } catch (error) {
      sinkError(controller, error);
    }
  }
  if (writer.stream !== stream) {
    return Promise.reject(new TypeError('The writer has been released'));
  }
  if (stream.state === 'errored' || stream.state === 'erroring') {
    return Promise.reject(stream.storedError);
  }
  if (closeQueuedOrInFlight(stream) || stream.state === 'closed') {
    return Promise.reject(new TypeError('The stream is closing or closed'));
  }
  const request = deferred();
  stream.requests.push(request);
  try {
    controller.queue.add(chunk, size);
  } catch (error) {
    sinkError(controller, error);
    return request.promise;
  }
  if (!closeQueuedOrInFlight(stream) && stream.state === 'writable') {
    updateBackpressure(stream, sinkDesires(controller) <= 0);
  }
  advance(controller);
  return request.promise;
};

const acquireWriter = (stream) => {
  if (stream.writer !== undefined) {
    throw new TypeError('The stream is locked to a writer already');
  }
  const writer = { stream };
  stream.writer = writer;
  switch (stream.state) {
    case 'writable':
      writer.ready =
        !closeQueuedOrInFlight(stream) && stream.backpressure ? deferred() : resolvedDeferred();
      writer.closed = deferred();
      break;
    case 'erroring':
      writer.ready = rejectedDeferred(stream.storedError);
      writer.closed = deferred();
      break;
    case 'closed':
      writer.ready = resolvedDeferred();
      writer.closed = resolvedDeferred();
      break;
    default:
      writer.ready = rejectedDeferred(stream.storedError);
      writer.closed = rejectedDeferred(stream.storedError);
  }
  return writer;
};

class WritableStreamDefaultController {
  #inner;

  constructor(key, inner) {
    if (key !== secret) {
      throw new TypeError('Illegal constructor');
    }
    this.#inner = inner;
  }

  error(reason) {
    sinkError(this.#inner, reason);
  }
}

export class WritableStream {
  #inner;

  static {
    innerWritable = (object) => {
      if (typeof object !== 'object' || object === null || !(#inner in object)) {
        throw new TypeError('A WritableStream is expected');
      }
      return object.#inner;
    };
  }

  constructor(underlyingSink, strategy) {
    const sink = dictionary(underlyingSink, 'The underlying sink');
    const queueing = dictionary(strategy, 'The strategy');
    const abort = callback(sink, 'abort');
    const close = callback(sink, 'close');
    const start = callback(sink, 'start');
    const write = callback(sink, 'write');
    if (sink.type !== undefined) {
      throw new RangeError(`Invalid type of a stream: ${String(sink.type)}`);
    }
    const size = sizeOf(queueing);
    const highWaterMark = highWaterMarkOf(queueing, 1);
    const stream = {
      state: 'writable',
      storedError: undefined,
      writer: undefined,
      requests: new Queue(),
      inFlightWrite: undefined,
      closeRequest: undefined,
      inFlightClose: undefined,
      pendingAbort: undefined,
      backpressure: false,
    };
    const inner = { stream, queue: new SizedQueue(), started: false, highWaterMark, size };
    const controller = new WritableStreamDefaultController(secret, inner);
    inner.write = (chunk) => promiseCall(write, underlyingSink, chunk, controller);
    inner.close = () => promiseCall(close, underlyingSink);
    inner.abort = (reason) => promiseCall(abort, underlyingSink, reason);
    stream.controller = inner;
    this.#inner = stream;
    updateBackpressure(stream, sinkDesires(inner) <= 0);
    const started = start === undefined ? undefined : start.call(underlyingSink, controller);
    Promise.resolve(started).then(
      () => {
        inner.started = true;
        advance(inner);
      },
      (error) => {
        inner.started = true;
        dealWithRejection(stream, error);
      },
    );
  }

  get locked() {
    return this.#inner.writer !== undefined;
  }

  abort(reason) {
    if (this.locked) {
      return Promise.reject(new TypeError('A locked stream cannot be aborted'));
    }
    return writableAbort(this.#inner, reason);
  }

  close() {
    if (this.locked) {
      return Promise.reject(new TypeError('A locked stream cannot be closed'));
    }
    if (closeQueuedOrInFlight(this.#inner)) {
      return Promise.reject(new TypeError('The stream is closing already'));
    }
    return writableClose(this.#inner);
  }

  getWriter() {
    return new WritableStreamDefaultWriter(this);
  }
}

export class WritableStreamDefaultWriter {
  #inner;

  constructor(stream) {
    this.#inner = acquireWriter(innerWritable(stream));
  }

  get closed() {
    return this.#inner.closed.promise;
  }

  get ready() {
    return this.#inner.ready.promise;
  }

  get desiredSize() {
    const { stream } = this.#inner;
    if (stream === undefined) {
      throw new TypeError('The writer has been released');
    }
    switch (stream.state) {
      case 'errored':
      case 'erroring':
        return null;
      case 'closed':
        return 0;
      default:
        return sinkDesires(stream.controller);
    }
  }

  abort(reason) {
    const { stream } = this.#inner;
    if (stream === undefined) {
      return Promise.reject(new TypeError('The writer has been released'));
    }
    return writableAbort(stream, reason);
  }

  close() {
    const { stream } = this.#inner;
    if (stream === undefined) {
      return Promise.reject(new TypeError('The writer has been released'));
    }
    if (closeQueuedOrInFlight(stream)) {
      return Promise.reject(new TypeError('The stream is closing already'));
    }
    return writableClose(stream);
  }

  releaseLock() {
    const writer = this.#inner;
    const { stream } = writer;
    if (stream === undefined) {
      return;
    }
    const released = new TypeError('The writer has been released');
    rejectAnew(writer, 'ready', released);
    rejectAnew(writer, 'closed', released);
    stream.writer = undefined;
    writer.stream = undefined;
  }

  write(chunk) {
    if (this.#inner.stream === undefined) {
      return Promise.reject(new TypeError('The writer has been released'));
    }
    return writableWrite(this.#inner, chunk);
  }
}

// === Strategies ===

export class CountQueuingStrategy {
  #highWaterMark;

  constructor(init) {
    if (typeof init !== 'object' || init === null || init.highWaterMark === undefined) {
      throw new TypeError('highWaterMark is required');
    }
    this.#highWaterMark = Number(init.highWaterMark);
  }

  get highWaterMark() {
    return this.#highWaterMark;
  }

  get size() {
    return CountQueuingStrategy.#size;
  }

  static #size = function size() {
    return 1;
  };
}
