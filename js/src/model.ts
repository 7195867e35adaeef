/** Models on onnxruntime-web: a card, and a call that takes crops or frames. */
import { ModelError, readCard, type Card } from "./card.js";

/** Name of each output -> its values. */
export type Outputs = Record<string, Float32Array>;

export interface Model<C extends Card = Card> {
  card: C;
  /** Crops or frames, (N, H, W, C), to the outputs that the card names. */
  run(inputs: Uint8Array, shape: readonly number[]): Promise<Outputs>;
}

/** What is used of onnxruntime-web, which the caller imports; stated here, so that the types of the package need no other. */
export interface Runtime {
  InferenceSession: {
    create(model: Uint8Array, options?: { executionProviders: string[]; logSeverityLevel: 3 }): Promise<Session>;
  };
  Tensor: new (type: "uint8", data: Uint8Array, dims: readonly number[]) => object;
}

interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(inputs: Record<string, object>): Promise<Record<string, { readonly data: unknown }>>;
}

/** Open an ONNX file of kpedge. */
export async function openModel(ort: Runtime, file: Uint8Array, source: string, provider = "wasm"): Promise<Model> {
  const card = readCard(file, source);
  let session: Session;
  try {
    session = await ort.InferenceSession.create(file, { executionProviders: [provider], logSeverityLevel: 3 });
  } catch (error) {
    throw new ModelError(describeFailure(String(error).split("\n")[0]!, source));
  }
  const names = card.outputs.map((output) => output.name);
  if (session.inputNames.join() !== card.input.name || session.outputNames.join() !== names.join()) {
    throw new ModelError(`${source}: its inputs and outputs are not those that its card names`);
  }
  return {
    card,
    async run(inputs, shape) {
      const answer = await session.run({ [card.input.name]: new ort.Tensor("uint8", inputs, shape) });
      return Object.fromEntries(names.map((name) => [name, answer[name]!.data as Float32Array]));
    },
  };
}

function describeFailure(message: string, source: string): string {
  if (!message.includes("no available backend")) return `${source}: onnxruntime cannot load it: ${message}`;
  return message.includes("Content Security")
    ? "the server's Content-Security-Policy forbids WebAssembly: its script-src needs 'wasm-unsafe-eval'"
    : `the WebAssembly runtime does not start; are all files of the folder on the server? ${message}`;
}
