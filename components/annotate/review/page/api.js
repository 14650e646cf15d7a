// The service behind the page. An answer that is no success is an ApiError with what the service said; its status is 0
// where there is no answer at all.

export class ApiError extends Error {
  constructor(status, body) {
    super(body.message ?? (body.detail ? JSON.stringify(body.detail) : `the review service answered ${status}`));
    this.status = status;
    this.body = body;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError(0, { message: "The review service does not answer: is `lingbot annotate review` still running?" });
  }
  if (!response.ok) {
    const text = await response.text();
    let body = { message: text };
    try { body = JSON.parse(text); } catch { /* a plain text is the message */ }
    throw new ApiError(response.status, body);
  }
  return response;
}

export const get = async (path, query = {}) => {
  const words = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return (await ask(words.length ? `${path}?${new URLSearchParams(words)}` : path)).json();
};

export const getBytes = async (path) => (await ask(path)).arrayBuffer();

export const put = async (path, body) =>
  (await ask(path, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
