// What a deletion that is asked about will free.

import { Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { bytes } from "./format";
import { FREES_MAX, type Frees } from "./frees";
import { word } from "./i18n";

/** What is said of it; nothing is read yet: undefined, too much would have to be: null. */
function lines(frees: Frees | null | undefined): string[] {
  if (frees === undefined) {
    return [word("freesReading")];
  }
  if (frees === null) {
    return [word("freesTooMany", FREES_MAX)];
  }
  if (frees.known === 0) {
    return [word("freesUnknown")];
  }
  const all = frees.known + frees.unknown;
  return [
    word("freesSum", bytes(frees.bytes)),
    ...(frees.unknown > 0 ? [word("freesUnknownOf", frees.unknown, all)] : []),
    ...(all > 1 ? [word("freesShared")] : []),
  ];
}

/** It is read when the dialog is opened, and stays what it was then. */
export function WillFree({ what, read }: { what: string; read: () => Promise<Frees | null> }) {
  const { data } = useQuery({
    queryKey: ["frees", what],
    queryFn: read,
    staleTime: 0,
    gcTime: 0,
    refetchOnReconnect: false,
  });
  return (
    <Stack gap={0} aria-live="polite">
      {lines(data).map((line) => (
        <Text key={line} size="sm" c="dimmed">
          {line}
        </Text>
      ))}
    </Stack>
  );
}
