/** A phone's public key, as text. Opaque to the screen. */
export type PhoneId = string;
