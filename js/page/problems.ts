/** What went wrong, in words that say what to do. */

/** Throws where the browser lacks what the page needs. */
export function checkBrowser(): void {
  if (location.protocol === "file:") {
    throw new Error("This page cannot start from a file. Serve its folder, for example with: python -m http.server");
  }
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, or it is switched off. Use a current browser.");
  }
  if (typeof OffscreenCanvas !== "function") {
    throw new Error("This browser is too old: it has no OffscreenCanvas. Use a current browser.");
  }
}

const CAMERA: Record<string, string> = {
  NotAllowedError:
    "The camera may not be used. Allow it for this page in the browser's address bar and start it again.",
  SecurityError: "Browsers give cameras only to pages that are served by HTTPS or from localhost. A photo works here.",
  NotFoundError: "No camera was found. Connect one, or open a photo or a video.",
  OverconstrainedError: "That camera is not available any more. Choose another one.",
  NotReadableError: "The camera does not answer. Close other programs that use it and start it again.",
};

/** A problem in one line. */
export function describeProblem(error: unknown): string {
  const { name, message } = error as Error;
  return (error instanceof DOMException && CAMERA[name]) || message || String(error);
}
