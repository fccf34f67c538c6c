import { expect, test } from "vitest";
import { nextSpeech } from "./speech";

test("waits for the end of a sentence", () => {
  expect(nextSpeech("Once upon a", 0, false)).toBe("");
  expect(nextSpeech("Once upon a time. There", 0, false)).toBe("Once upon a time.");
  expect(nextSpeech("Once upon a time. There was. A", 17, false)).toBe(" There was.");
  expect(nextSpeech('"Go!" he', 0, false)).toBe('"Go!');
});

test("says the rest when the reply is done", () => {
  expect(nextSpeech("The end", 4, true)).toBe("end");
});

test("numbers are not sentences", () => {
  expect(nextSpeech("It costs 3.50 and", 0, false)).toBe("");
});
