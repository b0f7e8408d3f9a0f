// What a program of the Node SDK does with the Assistants API. Address and key come from the environment, as the SDK
// reads them; what it saw goes to standard output, one JSON object a line.
// The SDK's major version is chosen by OPENAI_PACKAGE, because one program serves them all.

const { default: OpenAI, APIError, AzureOpenAI, NotFoundError, toFile } = await import(process.env.OPENAI_PACKAGE);

const client = process.env.AZURE_OPENAI_ENDPOINT
  ? new AzureOpenAI({ endpoint: process.env.AZURE_OPENAI_ENDPOINT })
  : new OpenAI();
const { assistants, threads } = client.beta;
const poll = { pollIntervalMs: 10 };
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};

const saw = (facts) => console.log(JSON.stringify(facts));

function listenTo(stream) {
  const heard = { events: [], deltas: [], text: null, calls: [], created: [], order: [] };
  stream
    .on('event', ({ event }) => heard.events.push(event))
    .on('textCreated', () => heard.order.push('textCreated'))
    .on('textDelta', ({ value }) => heard.deltas.push(value))
    .on('textDone', ({ value }) => {
      heard.text = value;
      heard.order.push('textDone');
    })
    .on('messageDone', () => heard.order.push('messageDone'))
    .on('toolCallCreated', () => heard.order.push('toolCallCreated'))
    .on('toolCallDone', (call) => {
      heard.calls.push([call.function.name, call.function.arguments]);
      heard.order.push('toolCallDone');
    })
    .on('end', () => heard.order.push('end'));
  return heard;
}

const outputsFor = (run, output) =>
  run.required_action.submit_tool_outputs.tool_calls.map(({ id }) => ({ tool_call_id: id, output }));

async function lastText(run) {
  const { data } = await threads.messages.list(run.thread_id, { run_id: run.id });
  return data[0].content[0].text.value;
}

async function all(list) {
  const found = [];
  for await (const item of list) found.push(item);
  return found;
}

const assistant = await assistants.create({ model: 'gpt-4o', name: 'Wetterfrosch', tools: [weather] });
const others = [];
for (let n = 0; n < 3; n++) others.push((await assistants.create({ model: 'gpt-4o' })).id);
saw({ assistant: assistant.name, model: assistant.model, assistant_ids: [assistant.id, ...others] });

const thread = await threads.create({ metadata: { ticket: 'thread_1' } });
const question = await threads.messages.create(thread.id, {
  role: 'user',
  content: 'Grüezi: call get_weather {"city": "Zürich"}',
});
saw({ thread_ids: [thread.id, question.thread_id], metadata: thread.metadata });

let run = await threads.runs.createAndPoll(thread.id, { assistant_id: assistant.id }, poll);
const calls = run.required_action.submit_tool_outputs.tool_calls;
saw({ polled: run.status, polled_calls: calls.map((call) => [call.function.name, call.function.arguments]) });
run = await threads.runs.submitToolOutputsAndPoll(
  run.id,
  { thread_id: thread.id, tool_outputs: outputsFor(run, '12 °C') },
  poll,
);
saw({ polled_end: run.status, polled_text: await lastText(run), run_ids: [run.id] });

await threads.messages.create(thread.id, { role: 'user', content: 'call get_weather {"city": "Oslo"}' });
let stream = threads.runs.stream(thread.id, { assistant_id: assistant.id });
let heard = listenTo(stream);
run = await stream.finalRun();
await stream.done();
saw({ streamed: run.status, streamed_events: heard.events, streamed_calls: heard.calls, streamed_order: heard.order });
stream = threads.runs.submitToolOutputsStream(run.id, {
  thread_id: thread.id,
  tool_outputs: outputsFor(run, '-3 °C ❄'),
});
heard = listenTo(stream);
run = await stream.finalRun();
const [message] = await stream.finalMessages();
await stream.done();
saw({ streamed_end: run.status, streamed_end_events: heard.events, message_ids: [message.id] });
saw({ streamed_deltas: heard.deltas, streamed_text: heard.text, streamed_end_order: heard.order });
saw({ streamed_kept: (await lastText(run)) === heard.text });

let iterated = '';
stream = threads.createAndRunStream({
  assistant_id: assistant.id,
  thread: { messages: [{ role: 'user', content: 'hello' }] },
});
for await (const { event, data } of stream) {
  if (event === 'thread.message.delta') iterated += data.delta.content[0].text.value;
}
saw({ iterated });

stream = threads.createAndRunStream({
  assistant_id: assistant.id,
  thread: { messages: [{ role: 'user', content: 'break off' }] },
});
try {
  const { last_error: broken } = await stream.finalRun();
  saw({ broken: broken.message });
} catch (error) {
  if (!(error instanceof APIError)) throw error;
  saw({ broken: error.message });
}

const first = await threads.messages.list(thread.id, { order: 'asc', limit: 1 });
const after = await threads.messages.list(thread.id, { order: 'asc', limit: 2, after: first.data[0].id });
const roles = (messages) => messages.map(({ role }) => role);
const steps = await all(threads.runs.steps.list(run.id, { thread_id: thread.id, order: 'asc' }));
const ids = (await all(assistants.list({ order: 'asc', limit: 2 }))).map(({ id }) => id);
saw({
  page: roles(first.data),
  next_page: roles(after.data),
  has_more: [first.has_more, after.has_more],
  all_pages: roles(await all(after)),
  steps: steps.map(({ type }) => type),
  runs: (await all(threads.runs.list(thread.id, { limit: 1 }))).length,
  listed: JSON.stringify(ids) === JSON.stringify([assistant.id, ...others]),
});

if (!process.env.WITHOUT_FILES) {
  const file = await client.files.create({
    file: await toFile(Buffer.from('Schnee\r\n'), 'nötes.txt'),
    purpose: 'assistants',
  });
  saw({ file: [file.filename, await (await client.files.content(file.id)).text()], file_ids: [file.id] });
  await client.files.delete(file.id);
}

saw({ deleted: [(await threads.delete(thread.id)).deleted, (await assistants.delete(assistant.id)).deleted] });
try {
  await threads.retrieve(thread.id);
} catch (error) {
  if (!(error instanceof NotFoundError)) throw error;
  saw({ missing: error.error.message.replace(thread.id, '…') });
}
