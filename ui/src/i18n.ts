// Which language the pages are in, and the words in it.

import { useSyncExternalStore } from "react";
import { VALUES, type ValueOf } from "./values";
import { en, ja, type Word } from "./words";

export type { Word };

export type Language = "en" | "ja";
const KEY = "azekura-language";
const listeners = new Set<() => void>();

function initial(): Language {
  // Tests run where there is no browser.
  if (typeof document === "undefined") {
    return "en";
  }
  const kept = localStorage.getItem(KEY);
  return kept === "en" || kept === "ja" ? kept : navigator.language.startsWith("ja") ? "ja" : "en";
}

let language: Language = initial();
remember();

/** In the page's own element, too: programs that read it aloud go by that. */
function remember(): void {
  if (typeof document !== "undefined") {
    document.documentElement.lang = language;
  }
}

export function setLanguage(next: Language): void {
  language = next;
  if (typeof localStorage !== "undefined") {
    localStorage.setItem(KEY, next);
  }
  remember();
  for (const listener of listeners) {
    listener();
  }
}

/** A word in the present language, with `{0}` and so on replaced. */
export function word(key: Word, ...values: (string | number)[]): string {
  const text = (language === "ja" ? ja : en)[key];
  return values.reduce<string>((all, value, at) => all.replace(`{${at}}`, String(value)), text);
}

/** What the API says, in the present language; English is what it says itself. What has no word stays as it is. */
export function valueWord(of: ValueOf, value: string): string {
  const words: Record<string, string> = VALUES[of];
  return language === "ja" ? (words[value] ?? value) : value;
}

/** The same of a text for people that a program does not translate: in Japanese with the kind of it in front. */
export function errorText(kind: string, message: string): string {
  const known = language === "ja" ? (VALUES.error as Record<string, string>)[kind] : undefined;
  return known ? `${known}: ${message}` : message;
}

/** The present language; the component is drawn again when it changes. */
export function useLanguage(): Language {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => language,
  );
}
